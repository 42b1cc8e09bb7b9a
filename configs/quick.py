"""A small two-shell network, for two CPU cores and a few minutes.

  python -m sevi_jax.train --config=configs/quick.py

Two-shell distance on 256 held-out pictures, drawn electron by electron at full counts: mean 0.0130,
median 0.0099 (bound 0.006; the original network 0.055-0.065). `bash scripts/train.sh` trains it and
judges it on event files: 4.6 minutes on two cores of an AMD EPYC, JAX 0.12.0.1, revision 78cee84.
"""

from sevi_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.image.size = 128  # holds all but 6 % of the information
    config.image.fold = True
    config.synthesis.renderer = "poisson"
    config.synthesis.exposure = (0.002, 1.0)  # pictures with few electrons too
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
    config.train.batch = 32
    config.train.steps = 5000
    config.train.learning_rate = 2e-3
    config.train.warmup = 0.05
    config.train.eval_every = 1000
    config.eval.pictures = 256
    config.eval.batch = 32
    return config
