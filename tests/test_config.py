import pytest

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
]


@pytest.mark.parametrize(("changes", "field"), BAD, ids=str)
def test_bad_value_is_an_input_error_that_names_the_field(changes, field):
    with pytest.raises(InputError) as error:
        validate(changed(changes))
    message = str(error.value)
    assert message.startswith(f"{field}=")
    assert "must be" in message
    assert "\n" not in message


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
