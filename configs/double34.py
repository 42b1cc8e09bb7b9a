"""The original's system 3, two shells to 24 betas: ResNet-34 on 1024 x 1024 pictures.

  python -m sevi_jax.train --config=configs/double34.py

For a GPU. Not trained to the end yet, so there is no result to show; docs/training.md has the
memory and time of two steps on a CPU (--config.train.batch=2 --config.train.steps=2). On a GPU,
scripts/gpu_report.sh trains it for as many minutes as it is given.

Loss, batch, learning rate and warmup are chosen by experiments on a small twin (docs/recipe.md),
whose distance is 0.051 with them after 62 000 pictures, and was 0.065 before after 80 000. The
distance as the loss is that of a later version of the original. The original's rate of 0.1 for Adam
is not copied.
"""

from sevi_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.shells = 2
    config.model.depth = 34
    config.loss.kind = "distance"
    config.train.batch = 16
    config.train.steps = 10_000  # twice the twin's number of pictures
    config.train.learning_rate = 3e-3
    config.train.warmup = 0.05
    return config
