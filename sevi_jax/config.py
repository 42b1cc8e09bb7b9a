"""The configuration of a run: every key with its default and its rule, and the original's prior."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy.special import ndtr, ndtri

from sevi_jax.errors import InputError

# An ml_collections.ConfigDict, whose own types give every key a union of all types there are.
Config = Any

# Prior of the original (docs/course.md): order -> (low, high, mean, sd) of a normal distribution
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

LOSSES = ("squared", "distance")  # `network.losses.beta_loss` has the formula of each


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What a value must be, in words, and whether it is."""

    text: str
    holds: Callable[[Any], bool]


def _whole(low: int, high: int = 2**31 - 1) -> _Rule:
    """A whole number; the upper limit is what 32 bits or any memory hold."""

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return _Rule(f"a whole number from {low} to {_power(high)}", holds)


def _real(text: str, holds: Callable[[float], bool]) -> _Rule:
    """A finite number for which more holds."""
    return _Rule(text, lambda value: _is_number(value) and holds(value))


def _one_of(*choices: Any) -> _Rule:
    def holds(value: Any) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in choices)

    names = list(map(str, choices))
    text = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
    return _Rule(text, holds)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _power(number: int) -> str:
    """Large limits are known as powers of two."""
    exponent = (number + 1).bit_length() - 1
    return f"2^{exponent} - 1" if number > 10_000 and number + 1 == 2**exponent else str(number)


_POSITIVE = _real("a positive number", lambda value: value > 0)
_NOT_NEGATIVE = _real("a number, 0 or more", lambda value: value >= 0)
_FRACTION = _real("a number in [0, 1)", lambda value: 0 <= value < 1)
_SWITCH = _one_of(True, False)


def _elsewhere(text: str) -> _Rule:
    """The rule of a nested value, which `validate` checks part by part."""
    return _Rule(text, lambda _value: True)


# Every key: default, rule, meaning. One place for `default_config`, `validate` and the help.
_KEYS: dict[str, tuple[Any, _Rule, str]] = {
    "seed": (0, _whole(0, 2**32 - 1), "of all random numbers"),
    "shells": (2, _one_of(1, 2), "in a picture"),
    "prior.radius": (
        (0.3, 0.9),
        _elsewhere("two numbers 0 < low <= high < 1, or one such pair per shell"),
        "half-widths of the detector",
    ),
    "prior.sigma": (
        (0.005, 0.009),
        _elsewhere("two numbers 0 < low <= high < 0.2, or one such pair per shell"),
        "radial standard deviation, half-widths",
    ),
    "prior.electrons": (
        (1_800_000, 2_500_000),
        _elsewhere("two whole numbers 0 < low <= high < 2^30, or one such pair per shell"),
        "of a shell",
    ),
    "prior.beta": (
        ORIGINAL_BETA,
        _elsewhere(
            "1 to 12 rows (low, high, mean, sd) with low < high and sd > 0, or one such table per "
            "shell; at least 1 in 1000 vectors drawn from it must be a density"
        ),
        "normal distribution of beta_2, beta_4, ... conditioned on low <= beta <= high",
    ),
    "image.size": (
        1024,
        _Rule(
            "an even number from 16 to 8192",
            lambda value: _whole(16, 8192).holds(value) and value % 2 == 0,
        ),
        "pixels along each side",
    ),
    "image.fold": (False, _SWITCH, "add up the four quadrants; needed by model.input=radial"),
    "synthesis.renderer": (
        "electrons",
        _one_of("electrons", "poisson"),
        "of training pictures: electron by electron, or Poisson numbers about the mean",
    ),
    "synthesis.chunk": (2**18, _whole(1, 2**30 - 1), "electrons drawn at a time"),
    "synthesis.exposure": (
        (1.0, 1.0),
        _elsewhere("two numbers 0 < low <= high, numbers of electrons below 2^30"),
        "log-uniform factor on the electrons of a training picture; held-out ones have factor 1",
    ),
    "model.depth": (34, _one_of(18, 34, 50, 101), "of the ResNet"),
    "model.width": (64, _whole(1, 4096), "channels of the first stage"),
    "model.stem": (
        "imagenet",
        _one_of("imagenet", "small"),
        "small is one 3 x 3 convolution without pooling",
    ),
    "model.input": (
        "counts",
        _one_of("counts", "sqrt", "radial"),
        "radial is the linear inversion of a folded picture",
    ),
    "model.ladder": (64, _whole(4, 1024), "thin shells of the radial input"),
    "model.exposures": (
        (1.0,),
        _elsewhere("one or more positive numbers"),
        "the radial input is made once for the noise at each of these",
    ),
    "model.head": (
        "linear",
        _one_of("linear", "readout"),
        "readout reads the betas off the radial input by learned weights",
    ),
    "model.shape": (False, _SWITCH, "predict R and sigma too"),
    "model.dtype": ("float32", _one_of("float32", "bfloat16"), "of the network's arithmetic"),
    "loss.kind": (
        "squared",
        _one_of(*LOSSES),
        "distance is the metric itself, squared the sum of the shells' squared distances",
    ),
    "loss.shape_weight": (
        0.0,
        _NOT_NEGATIVE,
        "of the loss on R and sigma, each over its prior's sd; needs model.shape",
    ),
    "train.batch": (8, _whole(1), "pictures of one step, over all devices"),
    "train.steps": (100_000, _whole(1), ""),
    "train.learning_rate": (1e-3, _POSITIVE, "of AdamW, at the end of the warmup"),
    "train.warmup": (0.02, _FRACTION, "fraction of the steps"),
    "train.weight_decay": (1e-4, _NOT_NEGATIVE, ""),
    "train.clip_norm": (1.0, _POSITIVE, "of the gradient"),
    "train.ema_decay": (0.999, _FRACTION, "of the averaged parameters"),
    "train.log_every": (50, _whole(1), "steps"),
    "train.eval_every": (1000, _whole(1), "steps between evaluations; each saves a checkpoint"),
    "train.keep": (2, _whole(1), "newest checkpoints kept, beside the best"),
    "eval.pictures": (32, _whole(1), "held out"),
    "eval.batch": (8, _whole(1), "pictures evaluated at a time, over all devices"),
    "eval.statistics_batches": (
        8,
        _whole(1),
        "batches for BatchNorm's statistics before an evaluation",
    ),
    "mesh.devices": (0, _whole(0), "0: all"),
    "mesh.shard_params": (False, _SWITCH, "split the large arrays of the state over the devices"),
}

# Draws of a table of beta that are looked at, and how many of them must be densities.
_DRAWS = 20_000
_LEAST = _DRAWS // 1000


def default_config() -> Config:
    """Returns the locked configuration with every key set: two shells, faithful to the original.

    Lengths are half-widths of the detector. `prior.radius`, `prior.sigma`, `prior.electrons` are
    (low, high), or one such pair per shell; `prior.beta` is a table of rows (low, high, mean, sd)
    for the orders 2, 4, ..., or one such table per shell. `describe` lists every key.
    """
    values: dict[str, Any] = {}
    for field, (default, _, _) in _KEYS.items():
        section, _, key = field.rpartition(".")
        (values.setdefault(section, {}) if section else values)[key] = default
    return ConfigDict(values).lock()


def describe() -> str:
    """Lists every key with its default, its rule and its meaning, for the help."""
    lines = []
    for field, (default, rule, meaning) in _KEYS.items():
        shown = "the original's table of 12 rows" if default is ORIGINAL_BETA else default
        lines.append(f"  --config.{field}={shown}")
        lines.append(f"      {meaning}{'; ' if meaning else ''}{rule.text}")
    return "\n".join(lines)


def fields() -> tuple[str, ...]:
    """Names of all keys, with dots."""
    return tuple(_KEYS)


def value_of(config: Config, field: str) -> Any:
    """The value of a key by its name with dots; None where there is no such key."""
    found = config
    for part in field.split("."):
        if not isinstance(found, ConfigDict) or part not in found:
            return None
        found = found[part]
    return found


def read_config(path: pathlib.Path) -> Config:
    """Reads the configuration that a run keeps in its folder, without checking its values.

    Raises:
        InputError: if it does not fit this program.
    """
    config = default_config()
    try:
        config.update(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: not a configuration of this program ({first})") from error
    return config


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


def _validate_prior(config: Config) -> None:
    """Checks the prior's ranges and table, shell by shell."""
    limits = {"radius": (0.0, 1.0), "sigma": (0.0, 0.2), "electrons": (0, 2**30)}
    for name, (low, high) in limits.items():
        value = config.prior[name]
        rows = per_shell(value, config.shells, 1)
        ok = len(rows) == config.shells and all(
            isinstance(row, (tuple, list))
            and len(row) == 2
            and all(_is_number(x) for x in row)
            and low < row[0] <= row[1] < high
            and (name != "electrons" or all(isinstance(x, int) for x in row))
            for row in rows
        )
        _require(ok, f"prior.{name}", value, _KEYS[f"prior.{name}"][1].text)
    tables = per_shell(config.prior.beta, config.shells, 2)
    _require(len(tables) == config.shells, "prior.beta", f"<{len(tables)} tables>", "one a shell")
    lengths = {len(table) if isinstance(table, (tuple, list)) else 0 for table in tables}
    _require(
        len(lengths) == 1 and 1 <= min(lengths) <= 12, "prior.beta", lengths, "1 to 12 rows, alike"
    )
    for table in dict.fromkeys(map(as_tuples, tables)):
        for i, row in enumerate(table):
            _validate_row(f"prior.beta[order {2 * i + 2}]", row)
        kept = _densities(table)
        _require(
            kept >= _LEAST,
            "prior.beta",
            table,
            f"a table whose draws are densities, nowhere negative, at least once in 1000: it was "
            f"{kept} of {_DRAWS}",
        )


def _validate_row(field: str, row: Any) -> None:
    """Checks one row of a table of beta."""
    shape = isinstance(row, tuple) and len(row) == 4 and all(map(_is_number, row))
    _require(shape, field, row, "four numbers (low, high, mean, sd)")
    low, high, mean, sd = row
    # numbers are drawn in float32
    ok = bool(np.float32(low) < np.float32(high)) and sd > 0
    _require(ok, field, row, "(low, high, mean, sd), low < high, sd > 0")
    near = low <= mean + 5 * sd and high >= mean - 5 * sd
    _require(near, field, row, "within 5 sd of the mean somewhere between low and high")
    _require(max(map(abs, row)) < 1e6, field, row, "four numbers below a million")


def as_tuples(value: Any) -> Any:
    """The same with tuples in the place of lists, which JSON makes of them."""
    return tuple(map(as_tuples, value)) if isinstance(value, (tuple, list)) else value


def _densities(table: tuple[tuple[float, ...], ...]) -> int:
    """How many of `_DRAWS` vectors of beta from a table are densities that are nowhere negative.

    Training draws until they are: a table that never gives one would keep it for ever.
    """
    low, high, mean, sd = np.array(table, np.float64).T
    start, stop = (low - mean) / sd, (high - mean) / sd
    # by the tail that is not next to 1, where float64 is coarse
    side = np.where(start > 0, -1.0, 1.0)
    first, last = ndtr(np.where(side > 0, start, -stop)), ndtr(np.where(side > 0, stop, -start))
    uniform = np.random.default_rng(0).random((_DRAWS, len(table)))
    beta = mean + sd * side * ndtri(first + uniform * (last - first))
    # where the polynomial may have its minimum is not known, so it is looked at closely
    cosine = np.sin(np.linspace(0, np.pi / 2, 129))  # dense at the pole
    legendre = np.polynomial.legendre.legvander(cosine, 2 * len(table))[:, 2::2]
    return int(((0.5 + np.clip(beta, low, high) @ legendre.T) >= 0).all(axis=1).sum())


def validate(config: Config) -> None:
    """Checks a configuration: every value, before anything is drawn or compiled.

    Raises:
        InputError: naming the field, its value and the rule.
    """
    for field, (_, rule, _) in _KEYS.items():
        value = value_of(config, field)
        _require(rule.holds(value), field, value, rule.text)
    _validate_prior(config)
    train, image, model = config.train, config.image, config.model
    warmup = round(train.warmup * train.steps)
    rule = f"smaller: {warmup} of the {train.steps} steps leave none for the decay"
    _require(warmup < train.steps, "train.warmup", train.warmup, rule)
    radial = model.input == "radial"
    _require(image.fold or not radial, "image.fold", image.fold, "True where model.input=radial")
    _require(
        radial or model.head != "readout",
        "model.input",
        model.input,
        "radial where model.head=readout",
    )
    exposure = config.synthesis.exposure
    ok = _are_numbers(exposure) and len(exposure) == 2 and 0 < exposure[0] <= exposure[1]
    _require(ok, "synthesis.exposure", exposure, "two numbers 0 < low <= high")
    most = max(row[1] for row in per_shell(config.prior.electrons, config.shells, 1))
    rule = f"below {2**30 / most:.0f}, for numbers of electrons below 2^30"
    _require(exposure[1] * most < 2**30, "synthesis.exposure", exposure, rule)
    exposures = model.exposures
    ok = _are_numbers(exposures) and len(exposures) > 0 and all(x > 0 for x in exposures)
    _require(ok, "model.exposures", exposures, "one or more positive numbers")
    _require(
        model.shape or config.loss.shape_weight == 0,
        "loss.shape_weight",
        config.loss.shape_weight,
        "0 where model.shape is False",
    )


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(map(_is_number, value))
