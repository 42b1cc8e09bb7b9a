"""How the time of each stage grows with electrons, pixels, batch and shells, over a factor of 16.

  .venv/bin/python scripts/benchmarks/scaling.py
  .venv/bin/python scripts/benchmarks/scaling.py --repeats=15 --output=scaling.json

Each stage is timed at five sizes, each twice the one before, in turns; the fastest time of each
counts, since what else the machine does can only add to it. A row says by what factor time grew
from the smallest to the largest, and the largest factor of one doubling. Proportional growth is 16
and 2; less means that fixed costs are part of it. `cpu` is the processor time of all threads, which
other programs disturb less than `wall`. The last row is the memory of the compiled training step
(XLA's count), which must not grow with the electrons.
"""

import argparse
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable

import jax

from sevi_jax import memory
from sevi_jax.config import default_config
from sevi_jax.network.training.loop import Trainer
from sevi_jax.network.training.sharding import data_mesh
from sevi_jax.network.training.specs import prior_from
from sevi_jax.physics.types import ImageSpec
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.pipeline import SynthesisSpec, draw_pictures

STEPS = (1, 2, 4, 8, 16)


def synthesis(renderer: str, electrons=2**18, size=128, batch=1, shells=1) -> Callable:
    """A call that draws pictures; the argument is the number of the call."""
    config = default_config()
    config.shells, config.prior.electrons = shells, (electrons, electrons)
    config.train.batch = config.eval.batch = batch
    config.mesh.devices = 1
    spec = SynthesisSpec(prior_from(config), ImageSpec(size), renderer)
    draw = functools.partial(draw_pictures, number=batch, spec=spec, mesh=data_mesh(config))
    draw = jax.jit(draw)
    return lambda i: jax.block_until_ready(draw(stream_key(root_key(0), "scaling", i)))


def trainer(electrons=2**16, size=128, batch=4) -> Trainer:
    """A ResNet-18 on pictures of two shells."""
    config = default_config()
    config.shells, config.prior.electrons = 2, (electrons, electrons)
    config.model.depth, config.image.size = 18, size
    config.train.batch = config.eval.batch = batch
    config.mesh.devices = 1
    config.synthesis.renderer = "poisson"
    return Trainer(config)


def training(**sizes) -> Callable:
    """A call that takes a training step."""
    made = trainer(**sizes)
    state = [made.initial_state()]

    def call(_):
        state[0], metrics = made.step(state[0], made.root)
        jax.block_until_ready(metrics)

    return call


STAGES: dict[str, Callable[[int], Callable]] = {
    "electrons renderer by electrons": lambda n: synthesis("electrons", electrons=n * 2**19),
    "electrons renderer by shells": lambda n: synthesis("electrons", shells=n),
    "electrons renderer by pictures": lambda n: synthesis("electrons", batch=n),
    "poisson renderer by pixels": lambda n: synthesis("poisson", size=round(256 * n**0.5 / 2) * 2),
    "poisson renderer by shells": lambda n: synthesis("poisson", size=256, shells=n),
    "poisson renderer by pictures": lambda n: synthesis("poisson", size=256, batch=n),
    "training step by pictures": lambda n: training(batch=2 * n),
    "training step by pixels": lambda n: training(size=round(128 * n**0.5 / 2) * 2),
}


def measure(make: Callable[[int], Callable], repeats: int) -> list[dict[str, float]]:
    """Seconds of a call at every size."""
    calls = [make(n) for n in STEPS]
    times: list[dict[str, list[float]]] = [{"wall": [], "cpu": []} for _ in STEPS]
    for call in calls:
        call(0)
    for i in range(1, repeats + 1):
        for call, found in zip(calls, times, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            call(i)
            found["wall"].append(time.perf_counter() - wall)
            found["cpu"].append(time.process_time() - cpu)
    return [{name: min(x) for name, x in found.items()} for found in times]


def step_memory(electrons: int) -> int:
    """Bytes beside its arguments that a step with the `electrons` renderer needs."""
    made = trainer(electrons=electrons)
    config = made.config
    with config.unlocked():
        config.synthesis.renderer = "electrons"
    made = Trainer(config)
    compiled = made.step.lower(made.abstract_state(), made.root).compile()  # pyright: ignore[reportFunctionMemberAccess]
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=pathlib.Path, help="JSON")
    options = parser.parse_args()
    memory.keep()  # as the commands do
    results: dict = {}
    print(f"{'stage':<34}{'smallest':>12}{'wall: x16':>11}{'x2':>6}{'cpu: x16':>11}{'x2':>6}")
    for name, make in STAGES.items():
        rows = results[name] = measure(make, options.repeats)
        cells = [f"{name:<34}", f"{rows[0]['wall'] * 1e3:>9.1f} ms"]
        for kind in ("wall", "cpu"):
            growth = [b[kind] / a[kind] for a, b in itertools.pairwise(rows)]
            cells.append(f"{rows[-1][kind] / rows[0][kind]:>11.2f}{max(growth):>6.2f}")
        print("".join(cells), flush=True)
    flat = results["memory"] = [step_memory(2**16), step_memory(2**20)]
    print(f"memory of a step: {flat[0] / 1e6:.1f} MB, with 16 times the electrons "
          f"{flat[1] / 1e6:.1f} MB")  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
