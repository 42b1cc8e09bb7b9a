"""The original's system 1, one shell to 12 betas: ResNet-101 on 1024 x 1024 pictures.

  python -m sevi_jax.train --config=configs/single101.py

For a GPU. Not trained to the end yet, so there is no result to show; docs/training.md has the
memory and time of two steps on a CPU (--config.train.batch=2 --config.train.steps=2). The
original's rate of 0.1 for Adam is not copied.
"""

from sevi_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.shells = 1
    config.model.depth = 101
    return config
