"""sevi_jax: shell radii, widths, yields and anisotropies from velocity-map images."""

__version__ = "0.1.0"
