"""How long a training step takes, against the same network in PyTorch: one run, side by side.

  .venv/bin/python scripts/benchmark_training.py
  .venv/bin/python scripts/benchmark_training.py --torch=/path/to/env/bin/python --repeats=5

PyTorch is installed into build/torch (1 GB), for this script alone, unless --torch names a Python
that has it. Both sides have torchvision's ResNet with one input channel, the same weights, the same
pictures, the loss of this program, gradients clipped to norm 1 and AdamW, float32, all cores;
PyTorch in its channels_last memory format. First the losses and the norms of the gradients are
compared; then the sides take turns, so that a busy moment of the machine meets both.

  ours      the network's step on pictures that are given, as PyTorch's
  complete  this program's whole training step: pictures drawn fresh inside it (by the poisson
            renderer; at 1024 electron by electron), running average of the parameters
  folded    the complete step on the quadrant that the picture is folded onto: the same information
            on a quarter of the pixels

With --forms nothing is compared with PyTorch. Instead the complete step is timed with all of the
CPU's own forms of layers (`sevi_jax.network.cpu`), without each of them, and with none of them, in
turns: how much longer the step takes without a form is what the form gains.

Compilation is not counted. Use a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv

import jax
import numpy as np
import optax

from sevi_jax import memory
from sevi_jax.config import default_config
from sevi_jax.network import cpu, losses
from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.training.loop import Trainer
from sevi_jax.prng import root_key
from sevi_jax.synthesis.pipeline import Pictures, draw_pictures
from sevi_jax.synthesis.raster import normalise

CASES = {64: (18, 32), 128: (18, 32), 256: (18, 32), 1024: (34, 2)}  # size: depth, batch
ROOT = pathlib.Path(__file__).parents[1]


def torch_python() -> pathlib.Path:
    """Makes build/torch if it is not there."""
    folder = ROOT / "build" / "torch"
    python = folder / "bin" / "python"
    if not python.exists():
        print("benchmark_training.py: installing PyTorch into build/torch", file=sys.stderr)
        venv.create(folder, with_pip=True)
        line = [python, "-m", "pip", "install", "--quiet", "torch==2.13.0", "numpy"]
        subprocess.run(line, check=True)
    return python


class Torch:
    """The other process.

    Args:
        python: a Python that has PyTorch.
    """

    def __init__(self, python: pathlib.Path):
        script = pathlib.Path(__file__).parent / "benchmarks/torch_step.py"
        self._process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        hello = self._read()
        self.version, self.has_cuda = hello["version"], hello["cuda"]

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{pathlib.Path(sys.argv[0]).name}: PyTorch's side ended, see above")
        return json.loads(line)

    def ask(self, do: str, **more) -> dict:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return self._read()


def torch_names(params) -> dict[str, np.ndarray]:
    """Flax parameters by the names and in the layout of `ResNet` in benchmarks/torch_step.py."""
    found, block = {}, 0

    def conv(x):
        return np.ascontiguousarray(np.transpose(x["kernel"], (3, 2, 0, 1)))

    def norm(name, x):
        found[f"{name}.weight"], found[f"{name}.bias"] = np.array(x["scale"]), np.array(x["bias"])

    params = jax.device_get(params)
    found["stem.weight"] = conv(params["stem_conv"])
    norm("norm", params["stem_norm"])
    for stage in range(1, 5):
        index = 1
        while f"stage{stage}_block{index}" in params:
            part, name = params[f"stage{stage}_block{index}"], f"blocks.{block}"
            for i in (1, 2):
                found[f"{name}.conv{i}.weight"] = conv(part[f"conv{i}"])
                norm(f"{name}.norm{i}", part[f"norm{i}"])
            if "shortcut_conv" in part:
                found[f"{name}.shortcut.0.weight"] = conv(part["shortcut_conv"])
                norm(f"{name}.shortcut.1", part["shortcut_norm"])
            block, index = block + 1, index + 1
    found["head.weight"] = np.ascontiguousarray(params["head"]["kernel"].T)
    found["head.bias"] = np.array(params["head"]["bias"])
    return found


def trainer_of(size: int, depth: int, batch: int, fold: bool) -> Trainer:
    """The faithful job (README) at another size and batch."""
    config = default_config()
    config.shells, config.model.depth, config.train.batch = 2, depth, batch
    config.eval.batch, config.image.size, config.image.fold = batch, size, fold
    config.synthesis.renderer = "electrons" if size == 1024 else "poisson"
    return Trainer(config)


def given_step(trainer: Trainer):
    """The network's step on given pictures, and its first carry."""
    model = ShellNetwork(trainer.network)
    state = trainer.initial_state()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=1e-4))

    def objective(params, batch_stats, counts, beta):
        variables = {"params": params, "batch_stats": batch_stats, "constants": state.constants}
        prediction, updates = model.apply(variables, counts, train=True, mutable=["batch_stats"])
        loss = losses.beta_loss(prediction.beta, beta, "squared")
        return loss, updates["batch_stats"]

    def step(carry, counts, beta):
        params, batch_stats, opt_state = carry
        (loss, batch_stats), gradient = jax.value_and_grad(objective, has_aux=True)(
            params, batch_stats, counts, beta
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        carry = (optax.apply_updates(params, updates), batch_stats, opt_state)
        return carry, loss, optax.tree.norm(gradient)

    carry = (state.params, state.batch_stats, optimizer.init(state.params))
    return jax.jit(step, donate_argnums=0), carry


def set_up(torch: Torch, trainer: Trainer, params, pictures: Pictures, **more) -> None:
    """Gives the other process our network's weights, the pictures and what they were drawn from.

    Args:
        torch: the other process.
        trainer: whose network it is.
        params: our network's parameters.
        pictures: a batch.
        more: what else the other process's ``setup`` takes.
    """
    size, shells = trainer.network.image.side, trainer.network.shells
    weights = 2 / (4 * np.arange(1, trainer.network.orders + 1) + 1)
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "start.npz")
        arrays: dict = torch_names(params["resnet"])
        # what the ResNet sees: pictures of mean 1
        arrays["pictures"] = np.array(jax.vmap(normalise)(pictures.counts)) * np.float32(
            size**2 / 255
        )
        arrays["targets"] = np.asarray(pictures.params.beta).reshape(len(pictures.counts), -1)
        arrays["weights"] = np.tile(weights, shells).astype(np.float32)
        np.savez(file, **arrays)
        threads = len(os.sched_getaffinity(0))
        depth = trainer.network.depth
        torch.ask("setup", depth=depth, file=file, threads=threads, **more)


def measure(size: int, torch: Torch, repeats: int, steps: int) -> dict:
    """Times one size; seconds per step."""
    depth, batch = CASES[size]
    trainer = trainer_of(size, depth, batch, fold=False)
    pictures = jax.jit(lambda key: draw_pictures(key, batch, trainer.synthesis, trainer.mesh))(
        root_key(1)
    )
    step, carry = given_step(trainer)
    given = (pictures.counts, pictures.params.beta)
    set_up(torch, trainer, carry[0], pictures)
    theirs = torch.ask("output")
    carry, loss, norm = step(carry, *given)
    print(
        f"{size}: loss {float(loss):.6f}, PyTorch {theirs['loss']:.6f}; "
        f"norm of the gradient {float(norm):.6f}, PyTorch {theirs['grad_norm']:.6f}",
        file=sys.stderr,
    )
    # BatchNorm over two pictures magnifies rounding: 0.3 % in the gradient at 1024
    if not np.allclose([loss, norm], [theirs["loss"], theirs["grad_norm"]], rtol=1e-2):
        sys.exit("benchmark_training.py: the two networks differ")
    complete = {}
    for name, fold in (("complete", False), ("folded", True)):
        other = trainer_of(size, depth, batch, fold)
        complete[name] = [other, other.initial_state()]

    def run(name: str) -> float:
        nonlocal carry
        start = time.perf_counter()
        if name == "ours":
            carry, loss, _ = step(carry, *given)
            float(loss)
        else:
            other, state = complete[name]
            complete[name][1], metrics = other.step(state, other.root)
            float(metrics["loss"])
        return time.perf_counter() - start

    names = ("ours", "complete", "folded")
    times: dict[str, list[float]] = {name: [] for name in (*names, "torch")}
    for name in names:
        run(name)  # compiles
    torch.ask("step", steps=1)
    for _ in range(repeats):
        times["torch"] += torch.ask("step", steps=steps)["times"]
        for name in names:
            times[name] += [run(name) for _ in range(steps)]
    row: dict = {"size": size, "depth": depth, "batch": batch}
    row |= {name: statistics.median(values) for name, values in times.items()}
    row |= {f"{name}_ratio": row[name] / row["torch"] for name in names}
    return row | {"times": times}


def measure_forms(size: int, depth: int, batch: int, repeats: int, steps: int) -> dict:
    """Times the complete step of one size with and without each form; seconds per step."""
    chosen = {"all": cpu.FORMS, "none": ()}
    chosen |= {f"without {form}": [x for x in cpu.FORMS if x != form] for form in cpu.FORMS}
    held: dict[str, list] = {}
    for name, forms in chosen.items():
        with cpu.only(forms):
            trainer = trainer_of(size, depth, batch, fold=False)
            state, metrics = trainer.step(trainer.initial_state(), trainer.root)  # compiles
            float(metrics["loss"])
            held[name] = [trainer, state]
    times: dict[str, list[float]] = {name: [] for name in held}
    for _ in range(repeats):
        for name, pair in held.items():
            for _ in range(steps):
                start = time.perf_counter()
                pair[1], metrics = pair[0].step(pair[1], pair[0].root)
                float(metrics["loss"])
                times[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    gains = {form: seconds[f"without {form}"] / seconds["all"] - 1 for form in cpu.FORMS}
    row = {"size": size, "depth": depth, "batch": batch, "seconds": seconds}
    return row | {"gains": gains, "times": times}


def print_forms(row: dict) -> None:
    """Prints what each form gains at one size, as a share of the step with all of them."""
    seconds = row["seconds"]
    start = f"{row['size']}x{row['size']}, ResNet-{row['depth']}, batch {row['batch']}"
    print(f"{start}: all forms {seconds['all']:.3f} s, none {seconds['none']:.3f} s")
    for form, gain in row["gains"].items():
        print(f"  {form:<12}{gain:>7.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", type=pathlib.Path, help="a Python that has PyTorch")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    parser.add_argument("--output", type=pathlib.Path, help="JSON")
    parser.add_argument("--forms", action="store_true", help="what each form for the CPU gains")
    parser.add_argument(
        "--system-malloc",
        action="store_true",
        help="leave freed memory to the system; commands keep it",
    )
    options = parser.parse_args()
    if not options.system_malloc:
        memory.keep()
    if options.forms:
        rows = []
        sizes = [size for size in options.sizes if size < 1024]
        print(f"jax {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for size in sizes:
            rows.append(measure_forms(size, *CASES[size], options.repeats, options.steps))
            print_forms(rows[-1])
        write_rows(options.output, rows)
        return
    torch = Torch(options.torch or torch_python())
    print(f"jax {jax.__version__}, torch {torch.version}, {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    names = ("ours", "complete", "folded")
    print(f"{'picture':<12}{'ResNet':>7}{'batch':>6}{'PyTorch':>10}" + "".join(
        f"{name:>10}{'ratio':>7}" for name in names))  # fmt: skip
    rows = []
    for size in options.sizes:
        row = measure(size, torch, options.repeats, options.steps)
        rows.append(row)
        cells = "".join(f"{row[name]:>9.3f}s{row[f'{name}_ratio']:>7.2f}" for name in names)
        start = f"{f'{size}x{size}':<12}{row['depth']:>7}{row['batch']:>6}"
        print(f"{start}{row['torch']:>9.3f}s{cells}", flush=True)
    write_rows(options.output, rows)


def write_rows(path: pathlib.Path | None, rows: list[dict]) -> None:
    """Writes the measurements as JSON, if a file is named."""
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
