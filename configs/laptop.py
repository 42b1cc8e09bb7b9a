"""The two-shell network to use without a GPU: two CPU cores, under an hour.

  python -m sevi_jax.train --config=configs/laptop.py

Two-shell distance on 256 held-out pictures, drawn electron by electron at full counts: mean 0.0102,
median 0.0084 (bound 0.006; the original network 0.055-0.065). With a tenth, a hundredth and a
thousandth of the electrons (`sevi_jax.evaluate --workdir=runs/laptop --exposure=0.1`, ...): 0.021,
0.055, 0.137. 30 minutes on two cores of an AMD EPYC (Zen 4), JAX 0.10.1, with tests at low priority
beside it.
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
