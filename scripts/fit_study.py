"""Fits drawn pictures of two shells: distance over its Cramer-Rao bound, coverage of the errors.

  python scripts/fit_study.py
  python scripts/fit_study.py --exposure=0.01 --apart=0.012,0.03
  python scripts/fit_study.py --beta2=-0.45,0.95

As `python -m sevi_jax.evaluate --fit`, but without a network (the fit starts from the picture), and
for shells that the training prior does not hold. Pictures are drawn electron by electron, 128 x 128
pixels, folded. No fit that did not converge counts as an answer.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.config import default_config
from sevi_jax.network.training.specs import synthesis_from
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results.judged_fits import judge_fits, summarise_fits
from sevi_jax.synthesis.pipeline import render_electrons
from sevi_jax.synthesis.prior import Prior, sample_shells

IMAGE = ImageSpec(128, fold=True)
BATCH = 64


def pair(text: str) -> tuple[float, float]:
    """Two numbers of a flag."""
    low, high = (float(x) for x in text.split(","))
    return low, high


def draw(key: jax.Array, prior: Prior, exposure: float, apart) -> tuple[ShellParams, jax.Array]:
    """Draws one pair of shells and its picture."""
    shells_key, picture_key, middle_key, apart_key = jax.random.split(key, 4)
    params, _ = sample_shells(shells_key, prior)
    radius = params.radius
    if apart:
        middle = jax.random.uniform(middle_key, (), minval=0.32, maxval=0.88)
        half = jax.random.uniform(apart_key, (), minval=apart[0] / 2, maxval=apart[1] / 2)
        radius = jnp.stack([middle - half, middle + half])
    electrons = jnp.round(params.electrons * jnp.float32(exposure)).astype(jnp.int32)
    params = dataclasses.replace(params, radius=radius, electrons=electrons)
    return params, render_electrons(picture_key, params, IMAGE, 2**17)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--exposure", type=float, default=1.0, help="times 1.8 to 2.5 million")
    parser.add_argument("--apart", type=pair, help="LOW,HIGH: distance of the radii")
    parser.add_argument("--beta2", type=pair, help="LOW,HIGH: shells with nothing but beta_2")
    parser.add_argument(
        "--map", action="store_true", help="with the prior that they are drawn from"
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    config = default_config()
    config.shells = 2
    if options.beta2:  # so wide a normal distribution is nearly even
        config.prior.beta = ((*options.beta2, float(np.mean(options.beta2)), 10.0),)
    prior = synthesis_from(config).prior
    drawn = jax.jit(lambda key: draw(key, prior, options.exposure, options.apart))
    fits = []
    keys = jax.random.split(jax.random.key(options.seed), options.pictures)
    for first in range(0, options.pictures, BATCH):
        pictures = [drawn(key) for key in keys[first : first + BATCH]]
        truth, counts = jax.tree.map(lambda *x: jnp.stack(x), *pictures)
        orders = truth.beta.shape[-1]
        believed = prior if options.map else None
        fits += judge_fits(np.asarray(counts), IMAGE, truth, orders, None, believed)
    found = summarise_fits(fits)
    print(
        f"{found['pictures']} pictures, {found['converged']:.1%} converged "
        f"{found['not_converged'] or ''}, mean distance {found['distance']['mean']:.4f}, over its "
        f"bound {found['efficiency']['mean']:.3f} (median {found['efficiency']['median']:.3f})"
    )
    for name, part in found["coverage"].items():
        print(
            f"  {name:<8} within 1 error {part['68']:.1%}, 1.96 errors {part['95']:.1%}, "
            f"mean pull {part['mean_pull']:+.2f}"
        )


if __name__ == "__main__":
    main()
