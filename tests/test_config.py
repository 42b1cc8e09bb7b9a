import pytest
from ml_collections import ConfigDict

import sevi_jax.config as config_module
from sevi_jax.config import ORIGINAL_BETA, default_config, per_shell, validate
from sevi_jax.errors import InputError

RADIAL = {"model.input": "radial", "image.fold": True}


def changed(changes):
    config = default_config()
    with config.ignore_type():
        for field, value in changes.items():
            config.update_from_flattened_dict({field: value})
    return config


def with_row(order, row):
    """The original's table of beta with the row of one order replaced."""
    return tuple(row if 2 * i + 2 == order else old for i, old in enumerate(ORIGINAL_BETA))


GOOD = [
    {},
    {"shells": 1},
    {"prior.radius": ((0.3, 0.6), (0.5, 0.9))},
    {"prior.sigma": ((0.005, 0.006), (0.005, 0.009))},
    {"prior.electrons": ((1, 2), (10, 10))},
    {"prior.beta": (ORIGINAL_BETA, ORIGINAL_BETA)},
    {"prior.beta": ORIGINAL_BETA[:1]},
    RADIAL,
    {**RADIAL, "model.head": "readout"},
    {"model.shape": True, "loss.shape_weight": 0.5},
    {"synthesis.renderer": "poisson", "model.dtype": "bfloat16", "loss.kind": "distance"},
    {"synthesis.exposure": (0.01, 1.0), "model.exposures": (0.01, 0.1, 1.0)},
    {"mesh.devices": 1, "train.warmup": 0.0, "train.ema_decay": 0.0, "train.weight_decay": 0.0},
]


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_good_configuration_passes(changes):
    validate(changed(changes))


BAD = [
    ({"shells": 3}, "shells"),
    ({"shells": 0}, "shells"),
    ({"synthesis.renderer": "photons"}, "synthesis.renderer"),
    ({"model.depth": 35}, "model.depth"),
    ({"model.stem": "large"}, "model.stem"),
    ({"model.input": "log"}, "model.input"),
    ({"model.head": "conv"}, "model.head"),
    ({"model.dtype": "float16"}, "model.dtype"),
    ({"loss.kind": "absolute"}, "loss.kind"),
    ({"prior.radius": (0.9, 0.3)}, "prior.radius"),
    ({"prior.radius": (0.0, 0.9)}, "prior.radius"),
    ({"prior.radius": (0.3, 1.0)}, "prior.radius"),
    ({"prior.radius": (0.3, float("nan"))}, "prior.radius"),
    ({"prior.radius": (0.3, 0.5, 0.9)}, "prior.radius"),
    ({"prior.radius": ((0.3, 0.9),) * 3}, "prior.radius"),
    ({"prior.radius": ("0.3", "0.9")}, "prior.radius"),
    ({"prior.sigma": (0.005, 0.3)}, "prior.sigma"),
    ({"prior.sigma": (-0.1, 0.1)}, "prior.sigma"),
    ({"prior.electrons": (0, 10)}, "prior.electrons"),
    ({"prior.electrons": (1.5, 10.0)}, "prior.electrons"),
    ({"prior.electrons": (1, 2**31)}, "prior.electrons"),
    ({"prior.electrons": (True, 10)}, "prior.electrons"),
    ({"prior.beta": ()}, "prior.beta"),
    ({"prior.beta": (*ORIGINAL_BETA, ORIGINAL_BETA[-1])}, "prior.beta"),
    ({"prior.beta": (ORIGINAL_BETA, ORIGINAL_BETA[:3])}, "prior.beta"),
    ({"prior.beta": (ORIGINAL_BETA,) * 3}, "prior.beta"),
    ({"prior.beta": with_row(4, (1.4, 0.4, 0.8, 0.5))}, "prior.beta[order 4]"),
    ({"prior.beta": with_row(6, (0.2, 1.2, 0.5, 0.0))}, "prior.beta[order 6]"),
    ({"prior.beta": with_row(8, (0.1, 0.9, 0.2))}, "prior.beta[order 8]"),
    ({"prior.beta": with_row(24, (0.5, 0.6, 0.0, 0.01))}, "prior.beta[order 24]"),
    ({"prior.beta": with_row(24, (-0.6, -0.5, 0.0, 0.01))}, "prior.beta[order 24]"),
    ({"image.size": 63}, "image.size"),
    ({"image.size": 14}, "image.size"),
    ({"synthesis.chunk": 0}, "synthesis.chunk"),
    ({"synthesis.exposure": (0.0, 1.0)}, "synthesis.exposure"),
    ({"synthesis.exposure": (1.0, 0.5)}, "synthesis.exposure"),
    ({"synthesis.exposure": (1.0,)}, "synthesis.exposure"),
    ({"model.exposures": ()}, "model.exposures"),
    ({"model.exposures": (1.0, -0.1)}, "model.exposures"),
    ({"model.width": 0}, "model.width"),
    ({"model.ladder": 3}, "model.ladder"),
    ({"train.batch": 0}, "train.batch"),
    ({"train.steps": 0}, "train.steps"),
    ({"train.warmup": -0.1}, "train.warmup"),
    ({"train.warmup": 1.0}, "train.warmup"),
    ({"train.log_every": 0}, "train.log_every"),
    ({"train.eval_every": 0}, "train.eval_every"),
    ({"train.keep": 0}, "train.keep"),
    ({"eval.pictures": 0}, "eval.pictures"),
    ({"eval.batch": 0}, "eval.batch"),
    ({"eval.statistics_batches": 0}, "eval.statistics_batches"),
    ({"mesh.devices": -1}, "mesh.devices"),
    ({"train.learning_rate": 0.0}, "train.learning_rate"),
    ({"train.learning_rate": float("nan")}, "train.learning_rate"),
    ({"train.clip_norm": -1.0}, "train.clip_norm"),
    ({"train.weight_decay": -1e-4}, "train.weight_decay"),
    ({"train.ema_decay": 1.0}, "train.ema_decay"),
    ({"model.input": "radial"}, "image.fold"),
    ({"model.head": "readout"}, "model.input"),
    ({"model.shape": True, "loss.shape_weight": -1.0}, "loss.shape_weight"),
    ({"loss.shape_weight": 0.1}, "loss.shape_weight"),
    # numbers that no seed, counter or rate can be
    ({"seed": -1}, "seed"),
    ({"seed": 2**32}, "seed"),
    ({"seed": 10**20}, "seed"),
    ({"train.learning_rate": float("inf")}, "train.learning_rate"),
    ({"train.weight_decay": float("inf")}, "train.weight_decay"),
    ({"train.clip_norm": float("inf")}, "train.clip_norm"),
    ({"loss.shape_weight": float("inf"), "model.shape": True}, "loss.shape_weight"),
    ({"train.steps": 2**31}, "train.steps"),
    ({"train.batch": 8.5}, "train.batch"),
    ({"train.batch": True}, "train.batch"),
    ({"train.batch": "8"}, "train.batch"),
    ({"model.depth": 34.0}, "model.depth"),
    ({"image.fold": 1}, "image.fold"),
    ({"image.size": 2**20}, "image.size"),
    ({"train.warmup": 0.95, "train.steps": 10}, "train.warmup"),
    # tables of beta that are never, or hardly ever, densities, or have no width
    ({"prior.beta": ((10, 11, 10, 1),)}, "prior.beta"),
    ({"prior.beta": ((10, 11, 10, 1),), "shells": 1}, "prior.beta"),
    ({"prior.beta": (ORIGINAL_BETA[:1], ((10, 11, 10, 1),))}, "prior.beta"),
    ({"prior.beta": ((-1.0, -0.499, -0.7, 0.01),)}, "prior.beta"),
    ({"prior.beta": with_row(4, (0.4, 0.4, 0.8, 0.5))}, "prior.beta[order 4]"),
    ({"prior.beta": with_row(4, (0.4, 0.4 + 1e-12, 0.8, 0.5))}, "prior.beta[order 4]"),
    ({"prior.beta": with_row(4, (0.4, float("inf"), 0.8, 0.5))}, "prior.beta[order 4]"),
    ({"prior.beta": 3}, "prior.beta"),
]


@pytest.mark.parametrize(("changes", "field"), BAD, ids=str)
def test_bad_value_is_an_input_error_that_names_the_field(changes, field):
    with pytest.raises(InputError) as error:
        validate(changed(changes))
    message = str(error.value)
    assert message.startswith(f"{field}=")
    assert "must be" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("row", "share"),
    [
        # beta_2 alone: 1/2 + beta P_2 is a density for -1/2 <= beta <= 1; of a flat distribution
        # the share is known (sd so large that the normal distribution is flat)
        ((-0.5, 1.0, 0.0, 1e4), 1.0),
        ((0.5, 1.5, 0.0, 1e4), 0.5),
        ((-1.5, 1.0, 0.0, 1e4), 0.6),
        # the upper and the lower tail of a normal distribution, by scipy.stats
        ((0.9, 1.1, 0.4, 0.1), 0.9965627),
        ((-1.0, -0.4, 0.0, 0.1), 0.9909492),
    ],
)
def test_share_of_densities_is_the_known_one(row, share):
    """Of 20 000 draws, within 5 standard errors (false alarm once in a million)."""
    kept = config_module._densities((row,))
    error = (20_000 * share * (1 - share)) ** 0.5
    assert abs(kept - 20_000 * share) <= 5 * error + 1


def test_narrow_prior_that_is_a_density_once_in_fifty_passes():
    validate(changed({"prior.beta": ((0.99, 1.49, 0.0, 1e3),)}))


def test_every_key_is_described_with_default_and_rule():
    text = config_module.describe()
    for field in config_module.fields():
        assert f"--config.{field}=" in text
    assert "--config.train.batch=8\n" in text
    assert "at least 1 in 1000 vectors" in text
    assert "; squared or distance\n" in text


def test_configuration_that_lacks_a_key_names_it():
    config = ConfigDict({"train": {"steps": 3}, "seed": 0, "shells": 1})
    with pytest.raises(InputError, match=r"[a-z.]+=None must be"):
        validate(config)


def test_unknown_keys_are_errors():
    config = default_config()
    with pytest.raises((AttributeError, KeyError)):
        config.trian = 1
    with pytest.raises((AttributeError, KeyError)):
        config.train.step = 1
    with pytest.raises((AttributeError, KeyError)):
        config.update_from_flattened_dict({"image.sise": 64})


def test_every_default_is_a_fresh_copy():
    first = default_config()
    first.train.batch = 99
    assert default_config().train.batch != 99


def test_per_shell_repeats_one_entry_and_keeps_two():
    pair, other = (0.3, 0.9), (0.4, 0.5)
    assert per_shell(pair, 2, 1) == (pair, pair)
    assert per_shell([other, pair], 2, 1) == (other, pair)
    table = (pair, pair)
    assert per_shell(table, 2, 2) == (table, table)
    assert per_shell((table, table[:1]), 2, 2) == (table, table[:1])


def test_original_prior_is_the_published_table():
    # Sums of the four columns of the table, added up from the spec.
    low, high, mean, sd = (sum(column) for column in zip(*ORIGINAL_BETA, strict=True))
    assert len(ORIGINAL_BETA) == 12
    assert low == pytest.approx(1.20807572, abs=1e-8)
    assert high == pytest.approx(5.907, abs=1e-9)
    assert mean == pytest.approx(2.811, abs=1e-9)
    assert sd == pytest.approx(3.34, abs=1e-9)
