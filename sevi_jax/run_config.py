"""The configuration that a run keeps in its folder, as a configuration file for ``--config``.

`commands` gives ml_collections this file in the place of a ``config.json``, with its path behind a
colon: ml_collections reads configurations from programs only.
"""

import pathlib

from sevi_jax.config import Config, read_config


def get_config(path: str) -> Config:
    """Returns the configuration in a ``config.json``."""
    return read_config(pathlib.Path(path))
