"""A distribution of any form as its users hold it: I(r) and beta_n(r) with their bands."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.special
from uncertainties import UFloat

from sevi_jax.arguments import number, target
from sevi_jax.data.outputs import MADE_BY
from sevi_jax.data.picture import Picture
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError
from sevi_jax.estimation import fitting
from sevi_jax.estimation.harmonics import Wave, find_waves, in_words
from sevi_jax.estimation.residuals import residual_of
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.picture_model import ideal_points
from sevi_jax.results.calibration import Calibration, Energy
from sevi_jax.results.correlated import correlated
from sevi_jax.results.fit import UNLIKELY, Fit, known_picture
from sevi_jax.results.spectrum import Spectrum, spectrum_of

if TYPE_CHECKING:
    from sevi_jax.results.figures.style import Drawing

_KNOWN = 3.0  # errors that I(r) is above 0 where beta(r) is stated


@dataclasses.dataclass(frozen=True, eq=False)
class Band:
    """Where a distribution lies with a given probability, at every radius by itself.

    Attributes:
        intensity: (low, high), electrons per pixel of r, each ``[K]``.
        harmonics: the same of I beta_n, by order.
        beta: the same of beta_n, by order; NaN where I is not known.
    """

    intensity: tuple[np.ndarray, np.ndarray]
    harmonics: dict[int, tuple[np.ndarray, np.ndarray]]
    beta: dict[int, tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution of the radius; see `invert`.

    Attributes:
        fit: the fit that it is part of: origin, goodness, shells where there are any.
    """

    fit: Fit

    def __str__(self) -> str:
        from sevi_jax.results.distribution_text import text

        return text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from sevi_jax.results.distribution_text import html_text

        return html_text(self)

    @property
    def _continuum(self) -> Continuum:
        part = self.fit.fitted.model.model.continuum
        assert part is not None
        return part

    @functools.cached_property
    def _means(self) -> np.ndarray:
        """What the values at nodes give as means over the pixels of `r`, ``[K, nodes]``."""
        return self._continuum.means_at(self.r)

    @property
    def orders(self) -> tuple[int, ...]:
        """n of every beta_n."""
        return self._continuum.orders

    @functools.cached_property
    def r(self) -> np.ndarray:
        """Radii, whole pixels from the nearest to the farthest pixel that is used, ``[K]``.

        Electrons of smaller radii hit none of the pixels: nothing is known of them.
        """
        first = max(math.ceil(self.fit.nearest), 1)
        return np.arange(float(first), max(math.floor(self.fit.reach), first + 1) + 1)

    @functools.cached_property
    def _values(self) -> np.ndarray:
        """I and I beta_n of every order, ``[1 + L, K]``."""
        values = self.fit.fitted.found.values.continuum
        found = values.reshape(1 + len(self.orders), -1) @ self._means.T
        found[0] = np.maximum(found[0], 0.0)  # cubics may undershoot beside a jump
        return found

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of `intensity` and then the harmonics, ``[(1 + L) K, (1 + L) K]``.

        It is scaled by the dispersion of the fit.
        """
        part, count = self.fit.fitted.model.model.beside, self._continuum.count
        own = self.fit.fitted.covariance[part, part] * self.fit.dispersion
        # rows of every order, then columns
        half = np.concatenate([self._means @ rows for rows in own.reshape(-1, count, len(own))])
        found = np.concatenate([self._means @ x for x in half.T.reshape(-1, count, len(half))]).T
        # an error of the value of one electron is common to all of them
        common = self._values.ravel() * self.fit.fitted.prepared.noise.gain_error
        return found + np.outer(common, common)

    @functools.cached_property
    def _errors(self) -> np.ndarray:
        variance = np.diagonal(self.covariance)
        return np.sqrt(np.maximum(variance, 0.0)).reshape(self._values.shape)

    @property
    def intensity(self) -> np.ndarray:
        """I(r), electrons per pixel of r, ``[K]``."""
        return self._values[0]

    @property
    def intensity_error(self) -> np.ndarray:
        """Half of its 68 % band, ``[K]``."""
        return self._errors[0]

    @functools.cached_property
    def harmonics(self) -> dict[int, np.ndarray]:
        """I(r) beta_n(r) by order, each ``[K]``; the literature's beta."""
        return dict(zip(self.orders, self._values[1:], strict=True))

    @functools.cached_property
    def harmonics_error(self) -> dict[int, np.ndarray]:
        """Half of their 68 % bands."""
        return dict(zip(self.orders, self._errors[1:], strict=True))

    @functools.cached_property
    def is_known(self) -> np.ndarray:
        """Where I is known to be above 0, so that beta has a meaning, ``[K]`` bool."""
        return self.intensity > _KNOWN * self.intensity_error

    @functools.cached_property
    def beta(self) -> dict[int, np.ndarray]:
        """beta_n(r) by order, each ``[K]``; NaN where I is not known."""
        safe = np.where(self.is_known, self.intensity, np.nan)
        return {n: value / safe for n, value in self.harmonics.items()}

    @functools.cached_property
    def beta_error(self) -> dict[int, np.ndarray]:
        """Half of their 68 % bands; NaN where I is not known."""
        count, found = len(self.r), {}
        k = np.arange(count)
        safe = np.where(self.is_known, self.intensity, np.nan)
        for i, n in enumerate(self.orders, 1):
            own = self.covariance[i * count + k, i * count + k]
            cross = self.covariance[i * count + k, k]
            beta = self.beta[n]
            variance = own - 2 * beta * cross + beta**2 * self._errors[0] ** 2
            found[n] = np.sqrt(np.maximum(variance, 0.0)) / safe
        return found

    def band(self, level: float = 0.68) -> Band:
        """The pointwise bands that hold the truth with a probability.

        I is not negative and may be known badly: its band is that of its square root.

        Args:
            level: the probability, between 0 and 1.

        Raises:
            InputError: it is not.
        """
        expected = "a probability between 0 and 1"
        level = number("level", level, expected)
        if not 0 < level < 1:
            raise InputError(f"band({level}): expected {expected}")
        width = float(scipy.special.ndtri(0.5 + level / 2))

        def around(value, error):
            return value - width * error, value + width * error

        root = np.sqrt(self.intensity)
        reach = 0.5 * width * self.intensity_error / np.maximum(root, 1e-150)
        intensity = np.maximum(root - reach, 0.0) ** 2, (root + reach) ** 2
        harmonics = {n: around(self.harmonics[n], self.harmonics_error[n]) for n in self.orders}
        beta = {n: around(self.beta[n], self.beta_error[n]) for n in self.orders}
        return Band(intensity, harmonics, beta)

    @functools.cached_property
    def total(self) -> UFloat:
        """Electrons of all radii of `r`."""
        return self._sums[0]

    @functools.cached_property
    def mean_beta(self) -> dict[int, UFloat]:
        """beta_n of all electrons of `r` together, by order."""
        whole: Any = self._sums[0]
        return {n: x / whole for n, x in zip(self.orders, self._sums[1:], strict=True)}

    @functools.cached_property
    def _sums(self) -> list[UFloat]:
        """Integrals of I and of I beta_n over `r`, correlated."""
        weight = np.gradient(self.r)
        blocks = np.kron(np.eye(len(self._values)), weight)
        return correlated(self._values @ weight, blocks @ self.covariance @ blocks.T)

    @property
    def name(self) -> str:
        """Of the picture."""
        return self.fit.name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return self.fit.shape

    @property
    def origin(self) -> tuple[UFloat, UFloat]:
        """(row, column) of the centre, pixels from the corner."""
        return self.fit.origin

    @property
    def angle(self) -> UFloat:
        """Angle of the polarisation from axis 0 towards axis 1, degrees."""
        return self.fit.angle

    @property
    def ellipse(self) -> tuple[UFloat, UFloat] | None:
        """(cos2, sin2) of `model.geometry`; None where it was not free."""
        return self.fit.ellipse

    @property
    def gain(self) -> float:
        """Value of one electron in the picture."""
        return self.fit.gain

    @property
    def converged(self) -> bool:
        """Whether the search ended where it should."""
        return self.fit.converged

    @property
    def reason(self) -> str:
        """How it ended, in words."""
        return self.fit.reason

    @property
    def p_value(self) -> float:
        """Probability of a larger deviance if the model is right."""
        return self.fit.p_value

    @property
    def deviance_per_dof(self) -> float:
        """Deviance of all pixels over the degrees of freedom."""
        return self.fit.deviance_per_dof

    @property
    def dispersion(self) -> float:
        """Variance of the counts over the model's, at least 1; errors have its root in them."""
        return self.fit.dispersion

    @property
    def mean(self) -> np.ndarray:
        """Mean of every pixel in the values of the picture, ``[H, W]``."""
        return self.fit.mean

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is not right, in words."""
        found = list(self.fit.warnings)
        if self.p_value < UNLIKELY:
            found += in_words(self._waves(), self.orders)
        if not self.is_known.any():
            found.append("no I(r) is above 0 by 3 errors, so no beta(r) is stated")
        return tuple(found)

    def _waves(self) -> list[Wave]:
        """Waves around rings in the residual."""
        fitted = self.fit.fitted
        row, column = fitted.model.data.middles
        z, x = ideal_points(row, column, fitted.found.values.geometry)
        residual = residual_of(fitted.model, fitted.found.values)
        distance, angle = (v.reshape(self.shape) for v in (np.hypot(z, x), np.arctan2(x, z)))
        return find_waves(residual, distance, angle)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the picture, in words."""
        first = self.r[0]
        if first == 1:
            return self.fit.notes
        unseen = f"no pixel nearer to the origin is used: I(r) and sums begin at r = {first:g}"
        return (*self.fit.notes, unseen)

    def spectrum(
        self,
        calibration: Calibration,
        photon_energy: Energy | None = None,
        unit: str = "eV",
    ) -> Spectrum:
        """Electrons per energy with a band and its covariance; see `spectrum.spectrum_of`."""
        count = len(self.r)
        spread = self.covariance[:count, :count]
        return spectrum_of(self.r, self.intensity, spread, calibration, photon_energy, unit)

    def columns(self) -> dict[str, np.ndarray]:
        """All arrays by name, each ``[K]``: r, I, I beta_n and beta_n with errors and bands."""
        band = self.band(0.95)
        found = {
            "r_pixels": self.r,
            "intensity": self.intensity,
            "intensity_error": self.intensity_error,
            "intensity_low95": band.intensity[0],
            "intensity_high95": band.intensity[1],
        }
        for n in self.orders:
            found |= {
                f"intensity_beta{n}": self.harmonics[n],
                f"intensity_beta{n}_error": self.harmonics_error[n],
                f"beta{n}": self.beta[n],
                f"beta{n}_error": self.beta_error[n],
            }
        return found

    def to_xarray(self) -> Any:
        """The arrays as an xarray Dataset over r, with units.

        Raises:
            InputError: xarray is not installed.
        """
        try:
            import xarray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InputError(
                "to_xarray() needs xarray, which is not installed: pip install 'sevi_jax[notebook]'"
            ) from None
        columns = self.columns()
        r = columns.pop("r_pixels")
        units = {name: "" if name.startswith("beta") else "electrons per pixel" for name in columns}
        return xarray.Dataset(
            {name: ("r", x, {"units": units[name]}) for name, x in columns.items()},
            {"r": ("r", r, {"units": "pixels"})},
            {"picture": self.name, "convention": "literature", "p_value": self.p_value},
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts and lists: the record of a picture in JSON files."""
        from sevi_jax.results.record import fit_record

        found = fit_record(self.fit)
        found |= {"warnings": list(self.warnings), "notes": list(self.notes)}
        arrays = {
            name: [None if not np.isfinite(x) else float(x) for x in values]
            for name, values in self.columns().items()
        }
        return found | {"orders": list(self.orders), "distribution": arrays}

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the arrays as CSV, or everything as JSON, as the suffix says.

        Raises:
            InputError: another suffix.
        """
        path = target(path, (".csv", ".json"))
        suffix = path.suffix.lower()
        if suffix == ".json":
            from sevi_jax.data.answers import write_json
            from sevi_jax.results.record import document

            write_json(path, document([self.to_dict()]))
        elif suffix == ".csv":
            columns = self.columns()
            rows = np.column_stack(list(columns.values()))
            lines = [f"# made by {MADE_BY}", ",".join(columns)]
            lines += (",".join(f"{x:.8g}" for x in row) for row in rows)
            with replacing(path) as temporary:
                temporary.write_text("\n".join(lines) + "\n", "utf-8")
        else:
            raise InputError(f"{path}: expected a name that ends in .csv or .json")

    def plot(self, kind: str = "distribution") -> "Drawing":
        """Draws a figure, which notebooks show and ``savefig`` saves.

        Args:
            kind: "distribution" (I(r) and beta_n(r) with their bands), "fit" (picture, means and
                residual) or "rings" (counts in rings about the origin).

        Raises:
            InputError: another kind.
        """
        from sevi_jax.results.figures.distributions import draw

        return draw(self, kind)

    def drawings(self) -> dict[str, bytes]:
        """All figures by their kind, as PNG files."""
        from sevi_jax.results.figures.distributions import drawings

        return drawings(self)

    def report(self, path: str | pathlib.Path) -> None:
        """Writes one HTML page with the figures and main numbers inside."""
        from sevi_jax.results.page import write_page

        write_page(target(path, (".html", ".htm")), [self])


def invert(
    picture: Picture | np.ndarray,
    orders: Sequence[int] = (2,),
    free: Sequence[str] = ("origin",),
    background: str = "none",
    range: tuple[float, float] | None = None,
    polarisation: float | str | None = None,
) -> Distribution:
    """Finds the distribution of radii and directions of a picture, whatever its form.

    The likelihood of the counts is maximised with I(r) and beta_n(r) free at every pixel of r and
    smooth as far as the counts do not say otherwise; densities stay positive.

    Args:
        picture: a `Picture` or an array of counts ``[H, W]``.
        orders: n of the beta_n(r) that are free, each from 1 to 24.
        free: what of the geometry is free: some of "origin", "angle", "ellipse", "harmonics", and
            "efficiency". An origin that the picture knows is held.
        background: "none", "constant" or "smooth".
        range: (low, high), pixels: distance from the origin of the pixels that are used.
        polarisation: "vertical", "horizontal" or degrees from axis 0; None is what the picture
            says.

    Raises:
        InputError: an argument or the picture is not what is expected; one line says what is.
    """
    picture = known_picture(picture, polarisation)
    request = fitting.request_of(
        0,
        (),
        "normal",
        free,
        background,
        range,
        False,
        continuum=sorted(set(fitting.order_list(orders))),
    )
    return Distribution(Fit(fitting.fit_picture(picture, request)))
