"""The two-shell network to use without a GPU: two CPU cores, under an hour.

  python -m sevi_jax.train --config=configs/laptop.py

TODO
"""

from sevi_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.image.size = 128  # holds all but 6 % of the information
    config.image.fold = True
    config.synthesis.renderer = "poisson"
    config.synthesis.exposure = (0.001, 1.0)  # pictures with few electrons too
    config.model.depth = 18
    config.model.width = 32
    config.model.stem = "small"
    config.model.input = "radial"
    config.model.ladder = 64
    config.model.exposures = (1.0, 0.01)
    config.model.head = "readout"
    config.model.shape = True
    config.loss.kind = "distance"
    config.loss.shape_weight = 0.1
    config.train.batch = 64
    config.train.steps = 12000
    config.train.learning_rate = 2e-3
    config.train.warmup = 0.05
    config.train.eval_every = 1000
    config.eval.pictures = 256
    config.eval.batch = 32
    return config
