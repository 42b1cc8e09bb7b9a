"""Draws the two figures of docs/training.md from a trained run.

  python scripts/network_figure.py runs/laptop

Of the run's held-out pictures it takes the one whose distance is the median, draws it again at
512 x 512, and writes two_shells.png and densities.png into docs/figures.
"""

import dataclasses
import pathlib
import sys

import jax
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from sevi_jax.network import losses
from sevi_jax.network.run import load_run
from sevi_jax.physics.types import ImageSpec
from sevi_jax.results.figures import training
from sevi_jax.synthesis.pipeline import render_electrons


def main(workdir: pathlib.Path) -> None:
    """Draws both figures."""
    run = load_run(workdir)
    drawn, prediction = run.held_out(run.config.eval.pictures)
    distance = np.asarray(losses.distance(prediction.beta, drawn.params.beta))
    middle = int(np.argsort(distance)[len(distance) // 2])
    params = jax.tree.map(lambda x: x[middle], drawn.params)
    counts = render_electrons(jax.random.key(0), params, ImageSpec(512), run.synthesis.chunk)
    folder = pathlib.Path(__file__).parents[1] / "docs/figures"
    figure = Figure(figsize=(6.4, 5.4), layout="compressed")
    axes = figure.subplots()
    # the polarisation, z, is the second axis of the counts; it is drawn upwards
    image = axes.imshow(
        np.asarray(counts).T, origin="lower", extent=(-1, 1, -1, 1), cmap="inferno",
        norm=PowerNorm(0.5, vmin=0, clip=True),
    )  # fmt: skip
    axes.set(xlabel="x (half-widths)", ylabel="z (half-widths), laser polarisation ↑")
    figure.colorbar(image, ax=axes, label="counts per pixel (square-root scale)")
    figure.savefig(folder / "two_shells.png")
    training.angular_distributions(
        folder / "densities.png", np.asarray(params.beta), np.asarray(prediction.beta[middle])
    )
    fields = dataclasses.asdict(dataclasses.replace(params, beta=None))
    print(f"picture {middle}, distance {distance[middle]:.4f}, {fields}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
