"""From the configuration to the small frozen records that physics and networks take."""

from sevi_jax.config import Config, per_shell
from sevi_jax.network.network import NetworkSpec
from sevi_jax.physics.types import ImageSpec
from sevi_jax.synthesis.pipeline import SynthesisSpec
from sevi_jax.synthesis.prior import Prior, ShellPrior


def prior_from(config: Config) -> Prior:
    """Returns one `ShellPrior` per shell."""
    columns = [
        per_shell(config.prior[name], config.shells, depth)
        for name, depth in (("radius", 1), ("sigma", 1), ("electrons", 1), ("beta", 2))
    ]
    return tuple(
        ShellPrior(tuple(radius), tuple(sigma), tuple(electrons), tuple(map(tuple, beta)))
        for radius, sigma, electrons, beta in zip(*columns, strict=True)
    )


def image_from(config: Config) -> ImageSpec:
    """Returns the shape of the pictures."""
    return ImageSpec(size=config.image.size, fold=config.image.fold)


def synthesis_from(config: Config) -> SynthesisSpec:
    """Returns how pictures are drawn."""
    return SynthesisSpec(
        prior=prior_from(config),
        image=image_from(config),
        renderer=config.synthesis.renderer,
        chunk=config.synthesis.chunk,
        exposure=tuple(config.synthesis.exposure),
    )


def network_from(config: Config) -> NetworkSpec:
    """Returns what network."""
    model = config.model.to_dict()
    model["exposures"] = tuple(model["exposures"])
    return NetworkSpec(**model, image=image_from(config), prior=prior_from(config))
