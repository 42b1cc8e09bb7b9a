"""Whether the device that JAX finds computes the same as the CPU, and how fast it is.

  .venv/bin/python scripts/gpu_check.py --output=gpu_check.json
  .venv/bin/python scripts/gpu_check.py --small

First numbers: pictures of the same keys, expected counts, loss and gradient of a training step, and
a fit, on the default device and on the CPU (there compiled with few optimisations, so that a CPU is
compared with other code too). What may differ is rounding; every limit stands in the table. Then
pictures per second: of the synthesis and of training, float32 and bfloat16, for several batches;
and the shares of synthesis, forward, and backward with optimizer in a step. `--small`, the default
on a CPU, takes small pictures and networks. The exit status is 1 if a number is beyond its limit.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from machine import describe_machine

from sevi_jax import memory
from sevi_jax.config import Config, default_config, validate
from sevi_jax.estimation.fitting import geometry_at, limits_for
from sevi_jax.estimation.scoring import Reason, covariance, search
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.network import losses
from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.training.loop import Trainer
from sevi_jax.network.training.specs import synthesis_from
from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.types import ImageSpec
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.pipeline import draw_picture, draw_pictures

# Pixels of the numbers' pictures, (size, folded) and batches of the timed ones; full and small.
CHECKED = {False: 256, True: 128}
PICTURES = {False: ((1024, False), (1024, True)), True: ((64, True),)}
BATCHES = {False: (4, 8, 16, 32), True: (2, 4)}


def make_config(small: bool, size: int, fold: bool, batch: int, dtype: str = "float32") -> Config:
    """`double34` on one device, or with few electrons and a ResNet-18 of width 16."""
    config = default_config()
    config.image.size, config.image.fold = size, fold
    config.train.batch = config.eval.batch = batch
    config.model.dtype, config.mesh.devices = dtype, 1
    if small:
        config.model.depth, config.model.width = 18, 16
        config.prior.electrons = (180_000, 250_000)
    validate(config)
    return config


def make_forward(trainer: Trainer) -> Callable:
    """``(params, state, counts, beta) -> loss`` in training."""
    model, kind = ShellNetwork(trainer.network), trainer.config.loss.kind

    def forward(params, state, counts, beta):
        variables = {"params": params, "batch_stats": state.batch_stats}
        variables["constants"] = state.constants
        prediction, _ = model.apply(variables, counts, train=True, mutable=["batch_stats"])
        return losses.beta_loss(prediction.beta, beta, kind)

    return forward


def on_both(function: Callable[[], Any]) -> tuple[Any, Any]:
    """Results of a function of NumPy arrays on the default device and on the CPU."""
    found = jax.device_get(function())
    jax.clear_caches()  # what is compiled does not know of the option below
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            expected = jax.device_get(function())
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
        jax.clear_caches()
    return found, expected


def difference(one: Any, other: Any) -> float:
    """Norm of the difference of two trees over the norm of the second."""
    both = [
        np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])
        for tree in (one, other)
    ]
    return float(np.linalg.norm(both[0] - both[1]) / np.linalg.norm(both[1]))


def check_numbers(
    config: Config, seed: int, report: Callable[[list[dict[str, Any]]], None] = lambda rows: None
) -> list[dict[str, Any]]:
    """What differs between the device and the CPU, and how much it may.

    Args:
        config: of network and pictures; its batch should have so many pictures that BatchNorm
            divides by no small number, which would magnify the rounding.
        seed: of all random numbers.
        report: takes the rows found so far, after each.
    """
    rows: list[dict[str, Any]] = []

    def add(name: str, value: float, limit: float) -> None:
        rows.append({"name": name, "value": value, "limit": limit, "ok": value <= limit})
        report(rows)

    batch, spec = config.train.batch, synthesis_from(config)
    for renderer in ("electrons", "poisson"):
        draw = functools.partial(draw_picture, spec=dataclasses.replace(spec, renderer=renderer))
        here, there = on_both(lambda draw=draw: jax.jit(draw)(stream_key(root_key(seed), "check")))
        add(f"{renderer}: parameters of the shells", difference(here.params, there.params), 1e-5)
        # an electron on the edge of a pixel, a mean on the edge of a Poisson number
        moved = np.abs(here.counts - there.counts).sum() / there.counts.sum()
        add(f"{renderer}: counts elsewhere, of all", float(moved), 1e-3)
        picture = there
    mean = functools.partial(expected_counts, spec=spec.image)
    here, there = on_both(lambda: jax.jit(mean)(picture.params))
    add("expected counts, over the peak", float(np.abs(here - there).max() / there.max()), 1e-4)

    trainer = Trainer(config)
    state = jax.device_get(trainer.initial_state())
    mesh = trainer.mesh
    key = stream_key(root_key(seed), "pictures")
    drawn = jax.device_get(draw_pictures(key, batch, spec, mesh))
    inputs = (state.params, state, drawn.counts, drawn.params.beta)
    gradient = jax.value_and_grad(make_forward(trainer))
    with jax.default_matmul_precision("float32"):  # else TF32 on a GPU
        here, there = on_both(lambda: jax.jit(gradient)(*inputs))
    add("loss", difference(here[0], there[0]), 1e-4)
    add("gradient", difference(here[1], there[1]), 1e-2)
    add("fit, in standard errors", *check_fit(spec.image, seed))
    return rows


def fit_case(image: ImageSpec, seed: int, electrons: float = 2e5) -> Callable[[], Any]:
    """A fit of a picture of two shells, from a start that is off; the only place that calls fits.

    Args:
        image: shape of the picture.
        seed: of the counts.
        electrons: of a shell.

    Returns:
        What fits on the default device, and returns values and errors of the vector of the model,
        and whether it converged.
    """
    rng = np.random.default_rng(seed)
    half, middle = image.size / 2, 0.0 if image.fold else image.size / 2
    known = ((0.4, 0.007, 0.9, (0.4, 0.1)), (0.7, 0.008, 1.1, (0.2, -0.1)))
    shells = [
        np.array([radius * half, sigma * half, *(share * electrons * np.array([1.0, *beta]))])
        for radius, sigma, share, beta in known
    ]
    geometry = geometry_at((middle, middle), (image.side, image.side), 90.0)
    model = Model((Shell((2, 4)),) * 2, Layout((0, 2, 4)))
    exposure = np.full((image.side, image.side), 4.0 if image.fold else 1.0)
    truth = Values(tuple(shells), geometry)
    with jax.default_device(jax.devices("cpu")[0]):
        empty = Data(np.zeros(exposure.shape), exposure)
        mean = PictureModel(empty, model, truth).mean(truth)
    data = Data(rng.poisson(np.maximum(mean, 0)).astype(float), exposure)
    off = np.array([0.003 * half, 0.0, 0.0, 0.0, 0.0])
    start = Values(tuple(shell + off for shell in shells), geometry)

    def fit() -> tuple[np.ndarray, np.ndarray, bool]:
        found = search(PictureModel(data, model, start), start, limits_for(data))
        matrix = covariance(found)
        errors = np.full(model.size, np.nan) if matrix is None else np.sqrt(np.diagonal(matrix))
        return found.values.vector(model), errors, found.reason is Reason.CONVERGED

    return fit


def check_fit(image: ImageSpec, seed: int) -> tuple[float, float]:
    """The largest difference of a fitted parameter over its error, and its limit."""
    here, there = on_both(fit_case(image, seed))
    if not (here[2] and there[2]):
        return float("inf"), 0.1
    return float((np.abs(here[0] - there[0]) / there[1]).max()), 0.1  # each is within 0.03


def median_seconds(call: Callable[[int], Any], repeats: int) -> float | None:
    """Median time of a call, without the first, which compiles; None where memory is short."""
    times = []
    try:
        for i in range(repeats + 1):
            start = time.perf_counter()
            jax.block_until_ready(call(i))
            times.append(time.perf_counter() - start)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return statistics.median(times[1:])


def stepping(trainer: Trainer) -> Callable[[int], Any]:
    """A call that does one training step after the other."""
    held = [trainer.initial_state()]

    def step(_: int) -> Any:
        held[0], metrics = trainer.step(held[0], trainer.root)
        return metrics

    return step


def drawing(trainer: Trainer) -> Callable[[int], Any]:
    """A call that draws a training batch."""
    batch, spec, mesh = trainer.config.train.batch, trainer.synthesis, trainer.mesh
    draw = jax.jit(functools.partial(draw_pictures, number=batch, spec=spec, mesh=mesh))
    return lambda i: draw(stream_key(trainer.root, "train", i))


def measure_rates(small: bool, repeats: int) -> list[dict[str, Any]]:
    """Pictures per second of drawing and of training, at every size, type and batch."""
    rows = []
    for size, fold in PICTURES[small]:
        for batch in BATCHES[small]:
            found: dict[str, float | None] = {}
            for renderer in ("electrons", "poisson"):
                config = make_config(small, size, fold, batch)
                config.synthesis.renderer = renderer
                found[renderer] = median_seconds(drawing(Trainer(config)), repeats)
            for dtype in ("float32", "bfloat16"):
                trainer = Trainer(make_config(small, size, fold, batch, dtype))
                found[dtype] = median_seconds(stepping(trainer), repeats)
            rates = {name: x and batch / x for name, x in found.items()}
            rows.append({"size": size, "fold": fold, "batch": batch, "pictures_per_second": rates})
            print(f"  {size}{' folded' if fold else ''}, batch {batch}", file=sys.stderr)
    return rows


def measure_shares(small: bool, repeats: int) -> dict[str, float | None]:
    """Seconds of a step, of its synthesis and of its forward pass, each by itself."""
    (size, fold), batch = PICTURES[small][0], BATCHES[small][1]
    trainer = Trainer(make_config(small, size, fold, batch))
    draw, state = drawing(trainer), trainer.initial_state()
    drawn, forward = draw(0), jax.jit(make_forward(trainer))
    return {
        "synthesis": median_seconds(draw, repeats),
        "forward": median_seconds(
            lambda _: forward(state.params, state, drawn.counts, drawn.params.beta), repeats
        ),
        "step": median_seconds(stepping(trainer), repeats),
    }


def print_numbers(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'device against CPU':<38}{'difference':>12}{'limit':>10}")
    for row in rows:
        mark = "" if row["ok"] else "  beyond its limit"
        print(f"{row['name']:<38}{row['value']:>12.1e}{row['limit']:>10.0e}{mark}")


def print_rates(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'pictures per second':<18}{'batch':>6}{'synthesis':>22}{'training':>22}")
    names = ("electrons", "poisson", "float32", "bfloat16")
    print(" " * 24 + "".join(f"{name:>11}" for name in names))
    for row in rows:
        rates = (row["pictures_per_second"][name] for name in names)
        cells = "".join(f"{'no memory' if x is None else f'{x:.1f}':>11}" for x in rates)
        picture = f"{row['size']} x {row['size']}{' folded' if row['fold'] else ''}"
        print(f"{picture:<18}{row['batch']:>6}{cells}")


def print_shares(found: dict[str, float | None]) -> None:
    step = found["step"]
    if step is None or found["synthesis"] is None or found["forward"] is None:
        print("\nshares: no memory")
        return
    shares = [found["synthesis"] / step, found["forward"] / step]
    print(
        f"\na step of {step * 1e3:.1f} ms: synthesis {shares[0]:.0%}, forward {shares[1]:.0%}, "
        f"backward and optimizer {1 - sum(shares):.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    is_cpu = jax.default_backend() == "cpu"
    parser.add_argument(
        "--small", action=argparse.BooleanOptionalAction, default=is_cpu, help="small sizes"
    )
    parser.add_argument("--repeats", type=int, default=5, help="calls; the median counts (5)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (0)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE.json", help="results")
    args = parser.parse_args()
    memory.keep()  # as the commands do
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    config = make_config(args.small, CHECKED[args.small], True, batch=8)
    numbers = check_numbers(config, args.seed)
    print_numbers(numbers)
    rates = measure_rates(args.small, args.repeats)
    print_rates(rates)
    shares = measure_shares(args.small, args.repeats)
    print_shares(shares)
    result = {"machine": machine, "small": args.small, "numbers": numbers}
    result |= {"rates": rates, "seconds": shares}
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")
    if not all(row["ok"] for row in numbers):
        sys.exit("gpu_check.py: numbers beyond their limits")


if __name__ == "__main__":
    main()
