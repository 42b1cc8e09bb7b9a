"""How fast pictures are drawn, against the method of the original: one run, side by side.

  .venv/bin/python -m scripts.benchmarks.drawing
  .venv/bin/python -m scripts.benchmarks.drawing --repeats=9 --output=benchmark.json

The original draws every electron with NumPy: per shell it tabulates the integral of the Legendre
series at a million points, looks uniform numbers up in it with np.interp, draws normal radii and
uniform phi, and counts the positions with np.add.at. Against it stand the two renderers of this
program, jitted, on the device that JAX finds:

  electrons   draws and counts every electron too
  poisson     draws Poisson numbers around the expected counts

Pictures have two shells of the original's prior. First both methods draw the same shells, and the
pictures are compared; then the methods take turns, so that a busy moment of the machine meets all
of them. The table gives the median time of a picture, the pictures per second, and the ratio to
NumPy at the same size; a folded picture holds the same information as the full one that NumPy
makes. Compilation is not counted: it is once per run. Use a machine that does nothing else.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from scripts.machine import describe_machine
from sevi_jax import memory
from sevi_jax.config import default_config
from sevi_jax.network.training.sharding import data_mesh
from sevi_jax.network.training.specs import prior_from
from sevi_jax.physics.types import ImageSpec
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.pipeline import (
    SynthesisSpec,
    draw_pictures,
    render_electrons,
    render_poisson,
)
from sevi_jax.synthesis.prior import sample_shells
from sevi_jax.synthesis.raster import fold_counts

TABLE_POINTS = 1_000_000  # of the original's table


def numpy_picture(params, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a picture with the original's method.

    Args:
        params: shells of one picture, NumPy arrays ``[S]`` and ``[S, L]``.
        size: pixels along each side.
        rng: random numbers.

    Returns:
        Electrons per pixel, ``[size, size]`` float64.
    """
    counts = np.zeros((size, size))
    cosines = np.linspace(-1, 1, TABLE_POINTS)
    shells = zip(params.radius, params.sigma, params.electrons, params.beta, strict=True)
    for radius, sigma, electrons, beta in shells:
        coefficients = np.zeros(2 * len(beta) + 1)
        coefficients[0], coefficients[2::2] = 0.5, beta
        integral = np.polynomial.legendre.Legendre(coefficients).integ(lbnd=-1)
        cosine = np.interp(rng.random(electrons), integral(cosines), cosines)
        r = rng.normal(radius, sigma, electrons)
        phi = rng.uniform(0, 2 * np.pi, electrons)
        x = r * np.sqrt(1 - cosine**2) * np.cos(phi)
        z = r * cosine
        inside = (x >= -1) & (x < 1) & (z >= -1) & (z < 1)
        place = [((axis[inside] + 1) / 2 * size).astype(int) for axis in (x, z)]
        np.add.at(counts, tuple(place), 1)
    return counts


def draw_params(prior, root: jax.Array, number: int) -> list:
    """Draws the shells of some pictures: a list of records of NumPy arrays."""
    keys = jax.random.split(stream_key(root, "benchmark shells"), number)
    params, _ = jax.jit(jax.vmap(functools.partial(sample_shells, prior=prior)))(keys)
    params = jax.device_get(params)
    return [jax.tree.map(lambda column, i=i: column[i], params) for i in range(number)]


def check_means(params: list, root: jax.Array, rng: np.random.Generator) -> list[dict]:
    """Compares both renderers with NumPy on the same shells, at 64 x 64 folded onto 32 x 32.

    Returns:
        Per renderer: chi-square per pixel of the difference of two sums of Poisson counts
        (1 where the means agree), and how far it may be from 1.

    Raises:
        SystemExit: the pictures differ.
    """
    spec = ImageSpec(64, fold=True)
    electrons = jax.jit(functools.partial(render_electrons, image=spec, chunk=2**18))
    renderers = {
        "electrons": electrons,
        "poisson": jax.jit(functools.partial(render_poisson, image=spec)),
    }
    theirs = sum(numpy_picture(shells, 64, rng) for shells in params)
    theirs = np.asarray(fold_counts(jnp.asarray(theirs, jnp.float32)), float)
    found = []
    for name, render in renderers.items():
        keys = [stream_key(root, f"benchmark {name}", i) for i in range(len(params))]
        pictures = [render(key, shells) for key, shells in zip(keys, params, strict=True)]
        ours = np.sum([np.asarray(picture, float) for picture in pictures], axis=0)
        used = ours + theirs >= 50
        chi_square = float(((ours - theirs)[used] ** 2 / (ours + theirs)[used]).mean())
        limit = 5 * float(np.sqrt(2 / used.sum()))
        print(f"check: {name} against NumPy, chi-square per pixel {chi_square:.3f}, "
              f"expected 1 +- {limit / 5:.3f}")  # fmt: skip
        if abs(chi_square - 1) > limit:
            sys.exit(f"benchmark.py: the pictures of {name} and NumPy differ")
        found.append({"renderer": name, "chi_square": chi_square, "limit": limit})
    return found


def contenders(config, prior, root: jax.Array, args, params: list) -> list[dict]:
    """What is timed: label, size, pictures of one call, and the call itself."""
    mesh = data_mesh(config)
    rng = np.random.default_rng(args.seed)
    rows = []
    for size in args.sizes:
        rows.append({
            "method": "numpy", "size": size, "fold": False, "pictures": 1,
            "call": lambda i, size=size: numpy_picture(params[i % len(params)], size, rng),
        })  # fmt: skip
        for renderer in ("electrons", "poisson"):
            for fold in (False, True):
                batch = args.batch_electrons if renderer == "electrons" else args.batch_poisson
                if renderer == "poisson":  # expected counts of a batch must fit in memory
                    batch = max(1, min(batch, args.pixels // size**2))
                devices = mesh.devices.size
                batch = -(-batch // devices) * devices
                spec = SynthesisSpec(prior, ImageSpec(size, fold), renderer)
                draw = jax.jit(functools.partial(draw_pictures, number=batch, spec=spec, mesh=mesh))
                stream = f"benchmark {renderer} {size} {fold}"
                rows.append({
                    "method": renderer, "size": size, "fold": fold, "pictures": batch,
                    "call": lambda i, draw=draw, stream=stream: jax.block_until_ready(
                        draw(stream_key(root, stream, i))
                    ),
                })  # fmt: skip
    return rows


def measure(rows: list[dict], repeats: int) -> None:
    """Times the rows in turns and adds ``seconds``, the median time of a picture, to each."""
    for row in rows:
        row["call"](0)  # compiles, and touches the memory
        row["times"] = []
    for i in range(1, repeats + 1):
        for row in rows:
            start = time.perf_counter()
            row["call"](i)
            row["times"].append((time.perf_counter() - start) / row["pictures"])
        print(f"round {i} of {repeats}", file=sys.stderr)
    reference = {}
    for row in rows:
        row["seconds"] = statistics.median(row["times"])
        row["pictures_per_second"] = 1 / row["seconds"]
        if row["method"] == "numpy":
            reference[row["size"]] = row["seconds"]
    for row in rows:
        row["ratio"] = reference[row["size"]] / row["seconds"]


def print_table(rows: list[dict]) -> None:
    print(f"\n{'method':<11}{'picture':<18}{'batch':>6}{'ms/picture':>13}{'pictures/s':>13}"
          f"{'times NumPy':>13}")  # fmt: skip
    for row in rows:
        picture = f"{row['size']} x {row['size']}{' folded' if row['fold'] else ''}"
        print(f"{row['method']:<11}{picture:<18}{row['pictures']:>6}"
              f"{row['seconds'] * 1e3:>13.2f}{row['pictures_per_second']:>13.2f}"
              f"{row['ratio']:>13.1f}")  # fmt: skip


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def whole(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError("must be 1 or more")
        return int(text)

    add = functools.partial(parser.add_argument, type=whole)

    def even(text: str) -> int:
        if int(text) < 16 or int(text) % 2:
            raise argparse.ArgumentTypeError("must be even and at least 16")
        return int(text)

    def new_file(text: str) -> pathlib.Path:
        if not pathlib.Path(text).parent.is_dir():
            raise argparse.ArgumentTypeError(f"{text}: no such folder")
        return pathlib.Path(text)

    add(
        "--sizes",
        type=even,
        nargs="+",
        default=[1024, 128],
        metavar="N",
        help="pixels, even (1024 128)",
    )
    add("--repeats", default=5, metavar="N", help="rounds; the median counts (5)")
    add("--batch_electrons", default=4, metavar="N", help="pictures of a call (4)")
    add("--batch_poisson", default=64, metavar="N", help="pictures of a call, at most (64)")
    add("--pixels", default=2**22, metavar="N", help="of all pictures of a poisson call (2^22)")
    add("--check", default=4, metavar="N", help="pictures compared before (4)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (0)")
    parser.add_argument("--output", type=new_file, metavar="FILE.json", help="results")
    return parser.parse_args(argv)


def main() -> None:
    args = parse()
    memory.keep()  # as the commands do
    config = default_config()
    devices = len(jax.devices())
    config.train.batch = config.eval.batch = devices  # which data_mesh checks
    prior, root = prior_from(config), root_key(args.seed)
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if machine["load_before"] and machine["load_before"] > 0.5:
        print(f"note: the load is {machine['load_before']:.1f}; do not trust these times")
    params = draw_params(prior, root, args.check)
    checks = check_means(params, root, np.random.default_rng([args.seed, 1]))
    rows = contenders(config, prior, root, args, params)
    measure(rows, args.repeats)
    print_table(rows)
    if args.output:
        results = [{name: row[name] for name in row if name != "call"} for row in rows]
        args.output.write_text(
            json.dumps({"machine": machine, "checks": checks, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
