"""What a training step should take on an A100 of 40 GB, from the program as compiled here.

  .venv/bin/python -m scripts.benchmarks.a100_estimate
  .venv/bin/python -m scripts.benchmarks.a100_estimate --config=configs/double18.py --batch=16

Every stage of the step is taken by itself, and XLA's cost analysis says what it does: operations,
and bytes between memory and processor. Against them stand the limits of the A100 (NVIDIA's data
sheet); a stage takes at least the longest of its times. How this is counted, and what is assumed:

- Operations are those of the program lowered for CUDA, before it is optimised. XLA counts the body
  of a loop once, however often it runs. Lowered for CUDA the random numbers have no loop (for the
  CPU they do). The loop over chunks of electrons is taken apart: one chunk by itself, times the
  mean number of chunks of the prior; likewise the shells of a picture, times the mean number of
  draws until a density is positive, and the pictures of the batch.
- Convolutions and matrix products are fused multiply-adds, two operations each, at the full rate of
  the type. What the synthesis does are single operations: half of the float32 rate.
- Bytes are those of the program compiled for the CPU, whose fusions are not a GPU's. The synthesis
  is charged for none: the arrays of a chunk, 1 MB each, and a picture, 4 MB, stay in the 40 MB of
  second-level cache.
- Counting an electron is one atomic addition there, assumed at 1e10 a second: a tenth of one per
  clock and slice of that cache.
- A chunk of electrons starts some kernels and asks the host whether it was the last: assumed 20
  times 5 microseconds.
- bfloat16 halves the bytes of forward and backward. The optimizer is float32 in all columns.
"""

import argparse
import json
import pathlib
import runpy
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scripts.machine import describe_machine
from sevi_jax.config import Config, validate
from sevi_jax.network import losses
from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.training.loop import Trainer
from sevi_jax.prng import root_key
from sevi_jax.synthesis.electrons import angle_table, draw_electrons
from sevi_jax.synthesis.pipeline import SynthesisSpec
from sevi_jax.synthesis.prior import sample_shells
from sevi_jax.synthesis.raster import add_positions

RATES = {"float32": 19.5e12, "TF32": 156e12, "bfloat16": 312e12}  # operations per second
BANDWIDTH = 1555e9  # bytes per second
CAPACITY = 40e9  # bytes
ATOMICS = 1e10  # per second
LAUNCH_SECONDS = 20 * 5e-6  # of a chunk of electrons

FLOAT, INT = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.float32, jnp.int32))


def operations(function: Callable, *shapes: Any) -> float:
    """Operations of a function without loops, lowered for CUDA."""
    lowered = jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",))
    cost = lowered.cost_analysis() or {}
    return float(cost["flops"]) + float(cost.get("transcendentals", 0.0))


def bytes_accessed(function: Callable, *shapes: Any) -> float:
    """Bytes that a function moves, compiled for this machine."""
    cost = jax.jit(function).lower(*shapes).compile().cost_analysis() or {}
    return float(cost["bytes accessed"])


def count_synthesis(spec: SynthesisSpec, batch: int) -> dict[str, float]:
    """Operations, atomic additions and chunks of drawing a batch electron by electron."""
    key = jax.eval_shape(lambda: root_key(0))
    beta = jax.ShapeDtypeStruct((len(spec.prior[0].beta),), jnp.float32)
    table = jax.eval_shape(angle_table, beta)

    def chunk(counts, key, radius, sigma, table, electrons):
        _, _, x, z = draw_electrons(key, radius, sigma, table, spec.chunk)
        return add_positions(counts, x, z, jnp.arange(spec.chunk) < electrons, spec.image)

    picture = jax.ShapeDtypeStruct((spec.image.side**2,), jnp.int32)
    per_chunk = operations(chunk, picture, key, FLOAT, FLOAT, table, INT)
    keys = jax.random.split(root_key(0), 4096)
    attempts = jax.jit(jax.vmap(lambda key: sample_shells(key, spec.prior)[1]))(keys)
    draws = float(np.mean(attempts))
    chunks = electrons = 0.0
    for shell in spec.prior:
        low, high = shell.electrons
        chunks += np.ceil(np.arange(low, high + 1) / spec.chunk).mean()
        electrons += (low + high) / 2
    shells = draws * operations(lambda key: sample_shells(key, spec.prior), key)
    tables = len(spec.prior) * operations(angle_table, beta)
    return {
        "operations": batch * (chunks * per_chunk + shells + tables),
        "electrons": batch * electrons,
        "chunks": batch * chunks,
        "operations_per_electron": per_chunk / spec.chunk,
        "draws_per_shell": draws,
    }


def count_network(trainer: Trainer) -> dict[str, dict[str, float]]:
    """Operations and bytes of forward, backward and optimizer."""
    config, state = trainer.config, trainer.abstract_state()
    model, side = ShellNetwork(trainer.network), trainer.network.image.side
    counts = jax.ShapeDtypeStruct((config.train.batch, side, side), jnp.int32)
    shape = (config.train.batch, config.shells, trainer.network.orders)
    beta = jax.ShapeDtypeStruct(shape, jnp.float32)

    def forward(params, state, counts, beta):
        variables = {"params": params, "batch_stats": state.batch_stats}
        variables["constants"] = state.constants
        prediction, updates = model.apply(variables, counts, train=True, mutable=["batch_stats"])
        return losses.beta_loss(prediction.beta, beta, config.loss.kind), updates

    def optimizer(gradient, opt_state, params, ema_params):
        updates, opt_state = trainer.optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        decay = config.train.ema_decay
        ema = jax.tree.map(lambda x, y: decay * x + (1 - decay) * y, ema_params, params)
        return params, opt_state, ema

    inputs = (state.params, state, counts, beta)
    both = jax.value_and_grad(forward, has_aux=True)
    ahead = {"operations": operations(forward, *inputs), "bytes": bytes_accessed(forward, *inputs)}
    whole = {"operations": operations(both, *inputs), "bytes": bytes_accessed(both, *inputs)}
    held = (state.params, state.opt_state, state.params, state.ema_params)
    return {
        "forward": ahead,
        "backward": {name: whole[name] - ahead[name] for name in whole},
        "optimizer": {
            "operations": operations(optimizer, *held),
            "bytes": bytes_accessed(optimizer, *held),
        },
    }


def seconds(synthesis: dict[str, float], network: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Times of every stage by every limit, and for every type what is left as the longest."""
    drawing = {
        "operations": synthesis["operations"] / (RATES["float32"] / 2),
        "atomics": synthesis["electrons"] / ATOMICS,
        "launches": synthesis["chunks"] * LAUNCH_SECONDS,
    }
    found: dict[str, Any] = {"synthesis": {"parts": drawing}}
    for rate in RATES:  # the parts of the synthesis may not overlap at all
        found["synthesis"][rate] = sum(drawing.values())
    for stage, cost in network.items():
        found[stage] = {"parts": {"bytes": cost["bytes"] / BANDWIDTH}}
        for name, rate in RATES.items():
            is_half = name == "bfloat16" and stage != "optimizer"
            moving = cost["bytes"] / BANDWIDTH * (0.5 if is_half else 1.0)
            working = cost["operations"] / (RATES["float32"] if stage == "optimizer" else rate)
            found[stage]["parts"][name] = working
            found[stage][name] = max(moving, working)
    return found


def memory(trainer: Trainer) -> dict[str, float]:
    """Bytes of the whole step, compiled for this machine: arguments, and the most beside them."""
    root = jax.eval_shape(lambda: root_key(0))
    compiled = trainer.step.lower(trainer.abstract_state(), root).compile()
    found = compiled.memory_analysis()
    return {
        "state": float(found.argument_size_in_bytes),
        "temporary": float(found.temp_size_in_bytes),
        "compiled_operations": float(compiled.cost_analysis()["flops"]),
    }


def load(path: pathlib.Path, batch: int) -> Config:
    """The configuration of a file, on one device with that batch."""
    config = runpy.run_path(str(path))["get_config"]()
    config.train.batch = config.eval.batch = batch
    config.mesh.devices = 1
    validate(config)
    if config.synthesis.renderer != "electrons":
        raise SystemExit("a100_estimate.py: only pictures drawn by electrons are counted")
    return config


def print_table(result: dict[str, Any]) -> None:
    synthesis, times = result["synthesis"], result["seconds"]
    print(f"{'stage':<11}{'operations':>12}{'bytes':>12}{'float32':>12}{'TF32':>10}{'bf16':>10}")
    for stage in times:
        cost = synthesis if stage == "synthesis" else result["network"][stage]
        moved = f"{cost['bytes']:.2e}" if "bytes" in cost else "-"
        row = "".join(f"{times[stage][name] * 1e3:>8.1f} ms" for name in RATES)
        print(f"{stage:<11}{cost['operations']:>12.2e}{moved:>12} {row}")
    total = {name: sum(times[stage][name] for stage in times) for name in RATES}
    row = "".join(f"{total[name] * 1e3:>8.1f} ms" for name in RATES)
    print(f"{'step':<35} {row}")
    share = "".join(f"{100 * times['synthesis'][name] / total[name]:>9.0f} %" for name in RATES)
    print(f"{'share of the synthesis':<35} {share}")
    parts = times["synthesis"]["parts"]
    print("synthesis: " + ", ".join(f"{name} {x * 1e3:.1f} ms" for name, x in parts.items()))
    print(
        f"  {synthesis['electrons']:.3g} electrons, {synthesis['operations_per_electron']:.0f} "
        f"operations each, {synthesis['chunks']:.0f} chunks, {synthesis['draws_per_shell']:.3f} "
        "draws per shell"
    )
    used = result["memory"]
    print(
        f"memory: state {used['state'] / 1e9:.2f} GB + {used['temporary'] / 1e9:.2f} GB "
        f"= {(used['state'] + used['temporary']) / CAPACITY:.0%} of 40 GB"
    )
    counted = sum(cost["operations"] for cost in result["network"].values())
    ratio = used["compiled_operations"] / counted
    print(f"check: the compiled step has {ratio:.3f} times the network's operations above")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = pathlib.Path(__file__).parents[2]
    parser.add_argument("--config", type=pathlib.Path, default=here / "configs/double34.py")
    parser.add_argument("--batch", type=int, default=8, help="pictures of a step (8)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE.json", help="results")
    args = parser.parse_args()
    # The network takes the forms that it has on a GPU, not the CPU's.
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        trainer = Trainer(load(args.config, args.batch))
        synthesis = count_synthesis(trainer.synthesis, args.batch)
        network = count_network(trainer)
        used = memory(trainer)
    result = {
        "machine": describe_machine(),
        "config": args.config.name,
        "batch": args.batch,
        "synthesis": synthesis,
        "network": network,
        "seconds": seconds(synthesis, network),
        "memory": used,
    }
    print(f"{args.config.name}, batch {args.batch}: least times on an A100-40GB")
    print_table(result)
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
