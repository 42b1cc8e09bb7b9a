"""sevi_jax: shell radii, widths, yields and anisotropies from velocity-map images."""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevi_jax.data.load import load, load_all
    from sevi_jax.data.picture import Picture
    from sevi_jax.results.calibration import Calibration, calibrate
    from sevi_jax.results.distribution import Distribution, invert
    from sevi_jax.results.fit import Fit, fit
    from sevi_jax.results.many import fit_many
    from sevi_jax.synthesis.spectrometer import simulate

__version__ = "0.1.0"

# Loaded when they are asked for: the import itself takes neither JAX nor Matplotlib.
_PLACES = {
    "load": "data.load",
    "load_all": "data.load",
    "Picture": "data.picture",
    "fit": "results.fit",
    "Fit": "results.fit",
    "fit_many": "results.many",
    "invert": "results.distribution",
    "Distribution": "results.distribution",
    "calibrate": "results.calibration",
    "Calibration": "results.calibration",
    "simulate": "synthesis.spectrometer",
}

__all__ = [
    "Calibration", "Distribution", "Fit", "Picture", "calibrate", "fit", "fit_many", "invert",
    "load", "load_all", "simulate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """The package, on which commands of the same name do not hide its functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        # importing sevi_jax.calibrate, the command, would put it here
        if not (name in _PLACES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
