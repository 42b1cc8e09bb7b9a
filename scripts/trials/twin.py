"""Which recipe trains `configs/double34.py` best, tried on a small twin that a CPU can train.

  python scripts/trials/twin.py --workdir=runs/twin
  python scripts/trials/twin.py --workdir=runs/twin2 --loss=distance --rate=2e-3 --batch=16

The twin is `double34` with pictures of 128 x 128 pixels, a ResNet-18 and the `poisson` renderer;
stem, input, head and prior are the same. The script trains it on a given number of pictures and
prints the two-shell distance on 256 held-out pictures after every fifth of them. The same command
goes on from the newest checkpoint. Results stand in docs/recipe.md.

`--width=32 --size=64` makes a still smaller network, 16 times cheaper, for a first look only.
"""

import argparse
import pathlib
import time

from sevi_jax import memory
from sevi_jax.config import LOSSES, Config, default_config, validate
from sevi_jax.network.training.loop import train
from sevi_jax.network.training.metrics import read_metrics

PARTS = 5  # of a run; the network is judged after each


def make_config(options: argparse.Namespace) -> Config:
    """The twin's configuration with the recipe of the command line."""
    config = default_config()
    config.image.size = options.size
    config.synthesis.renderer = "poisson"
    config.model.depth, config.model.width = 18, options.width
    config.loss.kind = options.loss
    config.train.batch = options.batch
    config.train.steps = options.pictures // options.batch
    config.train.learning_rate = options.rate
    config.train.warmup = options.warmup
    config.train.weight_decay = options.weight_decay
    config.train.clip_norm = options.clip
    config.train.ema_decay = options.ema
    config.train.eval_every = max(1, config.train.steps // PARTS)
    config.train.log_every = max(1, config.train.steps // 50)
    config.eval.pictures = options.held_out
    config.eval.batch = min(32, options.held_out)
    config.eval.statistics_batches = max(1, min(32, 256 // options.batch))
    config.seed = options.seed
    validate(config)
    return config


def print_results(workdir: pathlib.Path, batch: int) -> None:
    """Prints the held-out distance after every part."""
    print(f"{'pictures':>9}{'distance':>10}{'median':>8}")
    for row in read_metrics(workdir):
        if row["kind"] == "eval":
            pictures = row["step"] * batch
            print(f"{pictures:>9}{row['distance']:>10.4f}{row['distance_median']:>8.4f}")


def make_parser() -> argparse.ArgumentParser:
    """The flags; the defaults are the recipe that is to be beaten."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--pictures", type=int, default=80_000, help="drawn in all (80000)")
    parser.add_argument("--batch", type=int, default=32, help="pictures of a step (32)")
    parser.add_argument("--loss", choices=LOSSES, default="squared")
    parser.add_argument("--rate", type=float, default=1e-3, help="largest learning rate (1e-3)")
    parser.add_argument("--warmup", type=float, default=0.05, help="fraction of steps (0.05)")
    parser.add_argument("--weight_decay", type=float, default=1e-4, help="(1e-4)")
    parser.add_argument("--clip", type=float, default=1.0, help="norm of the gradient (1)")
    parser.add_argument("--ema", type=float, default=0.999, help="decay of the average (0.999)")
    parser.add_argument("--size", type=int, default=128, help="pixels along each side (128)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage (64)")
    parser.add_argument("--held_out", type=int, default=256, help="pictures to judge on (256)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (0)")
    return parser


def main() -> None:
    options = make_parser().parse_args()
    memory.keep()  # as the commands do
    start, processor = time.monotonic(), time.process_time()
    finished = train(make_config(options), options.workdir)
    print(" ".join(f"--{name}={value}" for name, value in vars(options).items()))
    print_results(options.workdir, options.batch)
    print(
        f"{'finished' if finished else 'stopped'} after {time.monotonic() - start:.0f} s, "
        f"{time.process_time() - processor:.0f} s of processor time"
    )


if __name__ == "__main__":
    main()
