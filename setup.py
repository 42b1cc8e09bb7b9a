"""What pyproject.toml cannot say: the configurations are part of the package (sevi_jax/configs)."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sevi_jax*"]), "sevi_jax.configs"],
    package_dir={"sevi_jax.configs": "configs"},
)
