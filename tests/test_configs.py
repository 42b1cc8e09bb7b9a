"""The shipped configurations load, obey the rules and, where they say so, are the original's."""

import importlib.util
import pathlib

import pytest

import sevi_jax
from sevi_jax.config import ORIGINAL_BETA, validate

FOLDER = pathlib.Path(sevi_jax.__file__).parents[1] / "configs"
FILES = sorted(FOLDER.glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configuration_is_valid_and_opens_with_its_command(path):
    module = load(path)
    config = module.get_config()
    validate(config)
    assert config.is_locked
    assert f"python -m sevi_jax.train --config=configs/{path.name}" in module.__doc__


@pytest.mark.parametrize(
    ("name", "shells", "depth"),
    [
        ("single18", 1, 18),
        ("single34", 1, 34),
        ("single101", 1, 101),
        ("double18", 2, 18),
        ("double34", 2, 34),
    ],
)
def test_faithful_configuration_is_the_original(name, shells, depth):
    config = load(FOLDER / f"{name}.py").get_config()
    assert (config.shells, config.model.depth) == (shells, depth)
    assert (config.image.size, config.image.fold) == (1024, False)
    assert config.synthesis.renderer == "electrons"
    assert tuple(config.synthesis.exposure) == (1.0, 1.0)
    assert (config.model.width, config.model.stem) == (64, "imagenet")
    assert (config.model.input, config.model.head, config.model.shape) == (
        "counts",
        "linear",
        False,
    )
    # a later version of the original trained on the distance itself, as double34 does
    kind = "distance" if name == "double34" else "squared"
    assert (config.loss.kind, config.loss.shape_weight) == (kind, 0.0)
    assert config.prior.radius == (0.3, 0.9)
    assert config.prior.sigma == (0.005, 0.009)
    assert config.prior.electrons == (1_800_000, 2_500_000)
    assert config.prior.beta == ORIGINAL_BETA
    # the original's 0.1 with Adam is not copied
    assert 1e-5 < config.train.learning_rate < 1e-2


@pytest.mark.parametrize("name", ["quick", "laptop"])
def test_configurations_for_two_cores_predict_two_shells(name):
    config = load(FOLDER / f"{name}.py").get_config()
    assert config.shells == 2
    assert config.eval.pictures == 256
    assert config.prior.beta == ORIGINAL_BETA
