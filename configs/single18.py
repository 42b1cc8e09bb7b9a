"""The original's system 1 (one shell -> 12 betas), faithfully: ResNet-18, 1024 x 1024, every electron drawn.

  python -m sevi_jax.train --config=configs/single18.py

Measured so far: that it trains, evaluates and predicts at full size (README, "Configurations"). It
has not been trained to the end: that takes a GPU. On a CPU lower the batch to look at it:
--config.train.batch=2 --config.train.steps=2. The original's Adam at a rate of 0.1 is not copied.
"""

from sevi_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.shells = 1
    config.model.depth = 18
    return config
