"""The configuration of a run: every key with its default, the original's prior, and the rules."""

import math
from typing import Any

from ml_collections import ConfigDict

from sevi_jax.errors import InputError

# An ml_collections.ConfigDict, whose own types give every key a union of all types there are.
Config = Any

# Prior of the original, spec section 2: order -> (low, high, mean, sd) of a normal distribution
# conditioned on low <= beta <= high.
ORIGINAL_BETA = (
    (0.35, 1.0, 1.0, 0.65),
    (0.43, 1.434, 0.85, 0.5),
    (0.25, 1.24, 0.55, 0.5),
    (0.118, 0.9, 0.25, 0.5),
    (0.045, 0.6, 0.1, 0.5),
    (0.012, 0.36, 0.04, 0.3),
    (0.0026, 0.2, 0.015, 0.2),
    (0.0004, 0.1, 0.002, 0.1),
    (7.0e-5, 0.045, 0.004, 0.05),
    (5.6e-6, 0.019, 0.0, 0.02),
    (1.2e-7, 0.0067, 0.0, 0.01),
    (2e-9, 0.0023, 0.0, 0.01),
)

CHOICES = {
    "synthesis.renderer": ("electrons", "poisson"),
    "model.depth": (18, 34, 50, 101),
    "model.stem": ("imagenet", "small"),
    "model.input": ("counts", "sqrt", "radial"),
    "model.head": ("linear", "readout"),
    "model.dtype": ("float32", "bfloat16"),
    "loss.kind": ("squared", "distance"),
}


def default_config() -> Config:
    """Returns the locked configuration with every key set: two shells, faithful to the original.

    Lengths are half-widths of the detector. `prior.radius`, `prior.sigma`, `prior.electrons` are
    (low, high), or one such pair per shell; `prior.beta` is a table of rows (low, high, mean, sd)
    for the orders 2, 4, ..., or one such table per shell.
    """
    config = ConfigDict()
    config.seed = 0
    config.shells = 2
    config.prior = ConfigDict(
        {
            "radius": (0.3, 0.9),
            "sigma": (0.005, 0.009),
            "electrons": (1_800_000, 2_500_000),
            "beta": ORIGINAL_BETA,
        }
    )
    config.image = ConfigDict({"size": 1024, "fold": False})
    config.synthesis = ConfigDict(
        {
            "renderer": "electrons",
            "chunk": 2**18,  # electrons drawn at a time
            # (low, high) of a log-uniform factor on the electron numbers of a training picture,
            # for a network that shall take weaker pictures too; held-out ones have factor 1
            "exposure": (1.0, 1.0),
        }
    )
    config.model = ConfigDict(
        {
            "depth": 34,
            "width": 64,  # channels of the first stage
            "stem": "imagenet",  # or "small": one 3x3 convolution, no pooling
            "input": "counts",  # or "sqrt", or "radial": the linear inversion, on a folded picture
            "ladder": 64,  # thin shells of the radial input
            "exposures": (1.0,),  # the radial input is made once for the noise at each of these
            "head": "linear",  # or "readout": betas read off the radial input by learned weights
            "shape": False,  # whether R and sigma are predicted too
            "dtype": "float32",
        }
    )
    config.loss = ConfigDict(
        {
            "kind": "squared",
            "shape_weight": 0.0,  # of the loss on R and sigma, each over its prior's sd
        }
    )
    config.train = ConfigDict(
        {
            "batch": 8,  # pictures of one step, over all devices
            "steps": 100_000,
            "learning_rate": 1e-3,
            "warmup": 0.02,  # fraction of the steps
            "weight_decay": 1e-4,
            "clip_norm": 1.0,  # of the gradient
            "ema_decay": 0.999,
            "log_every": 50,
            "eval_every": 1000,  # evaluate and save
            "keep": 2,  # newest checkpoints kept, beside the best
        }
    )
    config.eval = ConfigDict(
        {
            "pictures": 32,
            "batch": 8,
            "statistics_batches": 8,  # batches for BatchNorm's statistics before an evaluation
        }
    )
    config.mesh = ConfigDict(
        {
            "devices": 0,  # 0: all
            # split the large arrays of the state over the devices, where memory needs it
            "shard_params": False,
        }
    )
    return config.lock()


def per_shell(value: Any, shells: int, depth: int) -> tuple:
    """Repeats a prior entry for every shell unless it is given per shell already.

    Args:
        value: nested tuples.
        shells: S.
        depth: nesting of one shell's entry: 1 for a pair, 2 for the table of beta.
    """
    level, inner = 0, value
    while isinstance(inner, (tuple, list)) and len(inner):
        level, inner = level + 1, inner[0]
    return tuple(value) if level > depth else (value,) * shells


def _require(ok: bool, field: str, value: Any, rule: str) -> None:
    if not ok:
        raise InputError(f"{field}={value} must be {rule}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _validate_prior(config: Config) -> None:
    """Checks the prior's ranges and table, shell by shell."""
    limits = {
        "radius": (0.0, 1.0, "two numbers 0 < low <= high < 1"),
        "sigma": (0.0, 0.2, "two numbers 0 < low <= high < 0.2"),
        "electrons": (0, 2**30, "two whole numbers 0 < low <= high < 2^30"),
    }
    for name, (low, high, rule) in limits.items():
        value = config.prior[name]
        rows = per_shell(value, config.shells, 1)
        ok = len(rows) == config.shells and all(
            isinstance(row, (tuple, list))
            and len(row) == 2
            and all(_is_number(x) for x in row)
            and low < row[0] <= row[1] < high
            for row in rows
        )
        rule += f", or one such pair for each of the {config.shells} shells"
        _require(ok, f"prior.{name}", value, rule)
        if name == "electrons":
            whole = all(isinstance(x, int) for row in rows for x in row)
            _require(whole, f"prior.{name}", value, rule)
    tables = per_shell(config.prior.beta, config.shells, 2)
    _require(len(tables) == config.shells, "prior.beta", f"<{len(tables)} tables>", "one a shell")
    orders = {len(table) for table in tables}
    _require(
        len(orders) == 1 and 1 <= min(orders) <= 12, "prior.beta", orders, "1 to 12 rows, alike"
    )
    for table in tables:
        for i, row in enumerate(table):
            field = f"prior.beta[order {2 * i + 2}]"
            shape = isinstance(row, (tuple, list)) and len(row) == 4 and all(map(_is_number, row))
            _require(shape, field, row, "four numbers (low, high, mean, sd)")
            low, high, mean, sd = row
            _require(
                low <= high and sd > 0, field, row, "(low, high, mean, sd), low <= high, sd > 0"
            )
            near = low <= mean + 5 * sd and high >= mean - 5 * sd
            _require(near, field, row, "within 5 sd of the mean somewhere between low and high")


def validate(config: Config) -> None:
    """Checks a configuration.

    Raises:
        InputError: naming the field, its value and the rule.
    """
    for field, choices in CHOICES.items():
        section, key = field.split(".")
        value = config[section][key]
        _require(value in choices, field, value, f"one of {', '.join(map(str, choices))}")
    _require(config.shells in (1, 2), "shells", config.shells, "1 or 2")
    _validate_prior(config)
    size = config.image.size
    _require(size >= 16 and size % 2 == 0, "image.size", size, "an even number, at least 16")
    at_least = {
        "synthesis.chunk": 1,
        "model.width": 1,
        "model.ladder": 4,
        "train.batch": 1,
        "train.steps": 1,
        "train.log_every": 1,
        "train.eval_every": 1,
        "train.keep": 1,
        "eval.pictures": 1,
        "eval.batch": 1,
        "eval.statistics_batches": 1,
        "mesh.devices": 0,
    }
    for field, low in at_least.items():
        section, key = field.split(".")
        value = config[section][key]
        _require(value >= low, field, value, f"at least {low}")
    train = config.train
    _require(train.learning_rate > 0, "train.learning_rate", train.learning_rate, "positive")
    _require(train.clip_norm > 0, "train.clip_norm", train.clip_norm, "positive")
    _require(train.weight_decay >= 0, "train.weight_decay", train.weight_decay, "0 or more")
    _require(0 <= train.ema_decay < 1, "train.ema_decay", train.ema_decay, "in [0, 1)")
    _require(0 <= train.warmup < 1, "train.warmup", train.warmup, "in [0, 1), a fraction of steps")
    radial = config.model.input == "radial"
    _require(
        config.image.fold or not radial,
        "image.fold",
        config.image.fold,
        "True where model.input=radial",
    )
    _require(
        radial or config.model.head != "readout",
        "model.input",
        config.model.input,
        "radial where model.head=readout",
    )
    exposure = config.synthesis.exposure
    ok = len(exposure) == 2 and all(map(_is_number, exposure)) and 0 < exposure[0] <= exposure[1]
    _require(ok, "synthesis.exposure", exposure, "two numbers 0 < low <= high")
    most = max(row[1] for row in per_shell(config.prior.electrons, config.shells, 1))
    rule = f"below {2**30 / most:.0f}, for numbers of electrons below 2^30"
    _require(exposure[1] * most < 2**30, "synthesis.exposure", exposure, rule)
    exposures = config.model.exposures
    ok = len(exposures) > 0 and all(_is_number(x) and x > 0 for x in exposures)
    _require(ok, "model.exposures", exposures, "one or more positive numbers")
    _require(
        config.loss.shape_weight >= 0, "loss.shape_weight", config.loss.shape_weight, "0 or more"
    )
    _require(
        config.model.shape or config.loss.shape_weight == 0,
        "loss.shape_weight",
        config.loss.shape_weight,
        "0 where model.shape is False",
    )
