"""A fit as its users hold it: shells with errors, goodness, warnings, the mean of every pixel."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from uncertainties import UFloat

from sevi_jax.arguments import shown, target, truth
from sevi_jax.data.hot import without_defects
from sevi_jax.data.picture import Picture
from sevi_jax.data.values import meaning
from sevi_jax.errors import InputError
from sevi_jax.estimation import fitting
from sevi_jax.estimation.causes import find_causes
from sevi_jax.estimation.dispersion import overdispersion
from sevi_jax.estimation.fitting import Fitted
from sevi_jax.estimation.reasons import reasons
from sevi_jax.estimation.residuals import residual_of
from sevi_jax.estimation.scoring import Reason
from sevi_jax.estimation.wording import Cause
from sevi_jax.model.picture_model import ideal_distance
from sevi_jax.results import table
from sevi_jax.results.calibration import Calibration, Energy
from sevi_jax.results.correlated import constant, correlated
from sevi_jax.results.energies import ShellEnergy, shell_energies
from sevi_jax.results.shell import FittedShell, of_this_picture, physical, shell_of
from sevi_jax.results.spectrum import Spectrum, fit_spectrum

if TYPE_CHECKING:
    from sevi_jax.results.distribution import Distribution
    from sevi_jax.results.figures.style import Drawing

UNLIKELY = 1e-3  # p-value below which the model does not describe the picture
_QUIET = 0.9  # of the expected deviance, below which less than the noise of electrons is seen


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A fitted picture; see `fit`.

    Attributes:
        fitted: the fit in the parameters of the model.
    """

    fitted: Fitted

    def __str__(self) -> str:
        return table.text_table(self)

    def __repr__(self) -> str:
        return table.text_table(self)

    def _repr_html_(self) -> str:
        return table.html_table(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts and lists: the record of a picture in JSON files."""
        from sevi_jax.results.record import fit_record

        return fit_record(self)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the fit as JSON; `results.energies.read_fits` reads its radii back."""
        from sevi_jax.data.answers import write_json
        from sevi_jax.results.record import document

        write_json(target(path, (".json",)), document([self.to_dict()]))

    def to_frame(self) -> Any:
        """The shells as a pandas DataFrame, one row each.

        Raises:
            InputError: pandas is not installed.
        """
        return table.frame(self)

    def plot(self, kind: str = "fit") -> "Drawing":
        """Draws a figure, which notebooks show and ``savefig`` saves.

        Args:
            kind: "fit" (picture, means and residual), "rings" (counts in rings about the origin),
                "densities" (angular distributions with their bands) or "betas".

        Raises:
            InputError: another kind.
        """
        from sevi_jax.results.figures.fits import draw

        return draw(self, kind)

    def drawings(self) -> dict[str, bytes]:
        """All figures by their kind, as PNG files."""
        from sevi_jax.results.figures.fits import drawings

        return drawings(self)

    def report(self, path: str | pathlib.Path) -> None:
        """Writes one HTML page with all numbers and figures inside."""
        from sevi_jax.results.page import write_page

        write_page(target(path, (".html", ".htm")), [self])

    @property
    def name(self) -> str:
        """Of the picture."""
        return self.fitted.picture.name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return self.fitted.picture.shape

    @functools.cached_property
    def electrons(self) -> float:
        """In the pixels that were used."""
        return float(self.fitted.prepared.data.counts.sum())

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of everything that was free: radius_1, sigma_1, ..., background_0."""
        return self.fitted.model.model.names

    @functools.cached_property
    def values(self) -> np.ndarray:
        """Values of `names`, ``[P]``: pixels from the corner, degrees, electrons, beta."""
        return self._transformed[0]

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of `values`, ``[P, P]``, scaled by `dispersion`."""
        return self._transformed[1]

    @functools.cached_property
    def _transformed(self) -> tuple[np.ndarray, np.ndarray]:
        model = self.fitted.model.model
        values, slope, counting = physical(self.fitted.found.values.vector(model), model)
        shape = self.fitted.picture.shape
        for k, index in enumerate(model.layout.geometry):
            place = model.starts[-1] + k
            if index < 2:
                values[place] += shape[index] / 2
            elif index == 2:
                values[place] = np.rad2deg(values[place])
                slope[place, place] = np.rad2deg(1.0)
        covariance = slope @ self.fitted.covariance @ slope.T
        number = of_this_picture(np.diagonal(covariance), counting)
        covariance[np.diag_indices_from(covariance)] = number
        covariance = covariance * self.dispersion
        # an error of the value of one electron is common to all numbers of electrons
        common = counting * self.fitted.prepared.noise.gain_error
        return values, covariance + np.outer(common, common)

    @functools.cached_property
    def parameters(self) -> dict[str, UFloat]:
        """Values of `names` with their errors, correlated; without those of a continuum."""
        place = self.place
        own = correlated(self.values[place], self.covariance[np.ix_(place, place)])
        return dict(zip((self.names[i] for i in place), own, strict=True))

    @functools.cached_property
    def place(self) -> np.ndarray:
        """Where in `names` all lies that is not of a continuum."""
        model = self.fitted.model.model
        return np.delete(np.arange(model.size), model.beside)

    def _shell(self, number: int) -> FittedShell:
        model = self.fitted.model.model
        shell = model.shells[number]
        own = list(self.parameters.values())[model.part(number)]
        return shell_of(own, shell.orders, shell.lengths == 3)

    @functools.cached_property
    def shells(self) -> tuple[FittedShell, ...]:
        """The shells, inner first."""
        return tuple(self._shell(i) for i in range(len(self.fitted.model.model.shells)))

    @functools.cached_property
    def distribution(self) -> "Distribution | None":
        """The density of any form beneath the shells; None where there is none."""
        if self.fitted.model.model.continuum is None:
            return None
        from sevi_jax.results.distribution import Distribution

        return Distribution(self)

    @functools.cached_property
    def reach(self) -> float:
        """Largest distance of a pixel that was used from the origin, pixels."""
        return float(self._distances.max())

    @property
    def nearest(self) -> float:
        """Smallest distance of a pixel that was used from the origin, pixels."""
        return float(self._distances.min())

    @functools.cached_property
    def _distances(self) -> np.ndarray:
        """Of the pixels that were used."""
        data, values = self.fitted.prepared.data, self.fitted.found.values
        used = data.exposure.ravel() > 0
        row, column = (x[used] for x in data.middles)
        return ideal_distance(row, column, values.geometry)

    def _named(self, name: str, fixed: float) -> UFloat:
        return self.parameters[name] if name in self.parameters else constant(fixed)

    @functools.cached_property
    def origin(self) -> tuple[UFloat, UFloat]:
        """(row, column) of the centre, pixels from the corner."""
        row, column = self.fitted.origin
        return self._named("origin_row", row), self._named("origin_column", column)

    @functools.cached_property
    def angle(self) -> UFloat:
        """Angle of the polarisation from axis 0 towards axis 1, degrees."""
        return self._named("angle", float(np.rad2deg(self.fitted.found.values.geometry[2])))

    @functools.cached_property
    def ellipse(self) -> tuple[UFloat, UFloat] | None:
        """(cos2, sin2) of `model.geometry`; None where it was not free."""
        if "cos2" not in self.names:
            return None
        return self._named("cos2", 0.0), self._named("sin2", 0.0)

    @property
    def gain(self) -> float:
        """Value of one electron in the picture."""
        return self.fitted.prepared.gain

    @property
    def gain_error(self) -> float:
        """Standard error of `gain`; 0 where it is given or is the step of the values."""
        noise = self.fitted.prepared.noise
        return noise.gain * noise.gain_error

    @functools.cached_property
    def scatter(self) -> UFloat:
        """f, the relative standard deviation of the pixels' gains; 0 where none is seen."""
        noise = self.fitted.prepared.noise
        return correlated(np.array([noise.spread]), np.array([[noise.spread_error**2]]))[0]

    @functools.cached_property
    def off_scale(self) -> UFloat | None:
        """Exposure over that of the off picture; None without one."""
        if self.fitted.prepared.on is None:
            return None
        return self._named("off_scale", self.fitted.found.values.off_scale)

    @property
    def converged(self) -> bool:
        """Whether the fit ended where it should and every parameter is known."""
        return self.fitted.found.reason is Reason.CONVERGED

    @property
    def reason(self) -> str:
        """How the fit ended, in words."""
        return self.fitted.found.reason.value

    @property
    def p_value(self) -> float:
        """Probability of a larger deviance if the model is right."""
        return self.fitted.goodness.p_value

    @property
    def deviance_per_dof(self) -> float:
        """Deviance of all pixels over the degrees of freedom."""
        return self.fitted.goodness.deviance / self.fitted.goodness.degrees_of_freedom

    @property
    def deviance_ratio(self) -> float:
        """Deviance over what it is on average if the model is right."""
        return self.fitted.goodness.deviance / self.fitted.goodness.expected

    @functools.cached_property
    def dispersion(self) -> float:
        """Variance of the counts over the model's, at least 1; errors have its root in them."""
        if self.p_value >= UNLIKELY or not np.isfinite(self.p_value):
            return 1.0
        residual = residual_of(self.fitted.model, self.fitted.found.values)
        pixels = int((self.fitted.prepared.data.exposure > 0).sum())
        return overdispersion(residual, round(pixels - self.fitted.goodness.degrees_of_freedom))

    @functools.cached_property
    def mean_electrons(self) -> np.ndarray:
        """Mean of every pixel, electrons, ``[H, W]``; NaN where a pixel is not used."""
        return self.fitted.model.mean(self.fitted.found.values)

    @property
    def mean(self) -> np.ndarray:
        """Mean of every pixel in the values of the picture, ``[H, W]``."""
        return self.mean_electrons * self.gain

    @functools.cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Why the model does not describe the picture; looked for when they are first asked for."""
        if self.distribution is not None:
            return ()  # the tests are for shells
        return find_causes(self.fitted)

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is not right with the fit, in words."""
        found = list(self.fitted.prepared.warnings)
        if not self.converged:
            found.append(f"not converged: {self.reason}")
        if not self.p_value >= UNLIKELY:
            found.append(
                f"the model does not describe this picture (p = {self.p_value:.1g}); errors are "
                f"scaled by {np.sqrt(self.dispersion):.3g}"
                + (
                    "; no cause was found, see the residual"
                    if self.converged and not self.causes and not self.distribution
                    else ""
                )
            )
        elif self.p_value > 1 - UNLIKELY and self.deviance_ratio < _QUIET:
            found.append(
                f"counts scatter less than electrons do (deviance over the expected one: "
                f"{self.deviance_ratio:.3g}): were they smoothed, averaged or scaled? errors may "
                "be wrong"
            )
        if not UNLIKELY <= self.p_value <= 1 - UNLIKELY and self.causes:
            return (*found, *(cause.sentence for cause in self.causes))
        if self.distribution is not None:
            return tuple(found)
        likely = bool(self.p_value >= UNLIKELY)
        return (*found, *reasons(self.fitted, self.mean_electrons, self.dispersion, likely))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the picture, in words."""
        found = (*self.fitted.picture.notes, *self.fitted.prepared.notes)
        within = (
            1 < place < size - 1
            for place, size in zip(self.fitted.origin, self.fitted.picture.shape, strict=True)
        )
        if self.fitted.picture.origin is None and not all(within):
            row, column = self.fitted.origin
            found = (
                *found,
                f"the rings are centred on an edge, ({row:.1f}, {column:.1f}): this is taken for a "
                "part of a picture (origin=ROW,COLUMN gives another centre)",
            )
        return found

    def energies(
        self, calibration: Calibration, photon_energy: Energy | None = None, unit: str = "eV"
    ) -> tuple[ShellEnergy, ...]:
        """Kinetic and binding energies of the shells, correlated; see `energies.shell_energies`."""
        return shell_energies(self, calibration, photon_energy, unit)

    def spectrum(
        self,
        calibration: Calibration,
        photon_energy: Energy | None = None,
        unit: str = "eV",
        energy: np.ndarray | None = None,
    ) -> Spectrum:
        """Electrons per energy of all shells, with a band; see `spectrum.fit_spectrum`."""
        return fit_spectrum(self, calibration, photon_energy, unit, energy)


def fit(  # noqa: PLR0913  # public, its options are keywords
    picture: Picture | np.ndarray,
    shells: int | str = 1,
    orders: Sequence[int] | Sequence[Sequence[int]] = (2,),
    shape: str = "normal",
    free: Sequence[str] = ("origin",),
    background: str = "none",
    range: tuple[float, float] | None = None,
    polarisation: float | str | None = None,
    positive: bool = False,
    start: Any = None,
    prior: Any = None,
    continuum: bool = False,
) -> Fit:
    """Fits shells to a picture by the likelihood of its counts.

    Args:
        picture: a `Picture` or an array of counts ``[H, W]``.
        shells: how many, or "auto": shells are added while the likelihood pays for them.
        orders: of the anisotropy parameters that are free, of all shells or of each, inner first.
        shape: of the density of the radius, "normal" or "skewed".
        free: what of the geometry is free: some of "origin", "angle", "ellipse", "harmonics", and
            "efficiency". An origin that the picture knows is held.
        background: "none", "constant" or "smooth".
        range: (low, high), pixels: distance from the origin of the pixels that are used.
        polarisation: "vertical", "horizontal" or degrees from axis 0; None is what the picture
            says.
        positive: whether densities of directions are kept from falling below 0.
        start: values to begin at.
        prior: a Gaussian prior of the parameters.
        continuum: whether a density of any form, of the orders of the shells, lies beneath the
            shells; it is `Fit.distribution`.

    Raises:
        InputError: an argument or the picture is not what is expected; one line says what is.
    """
    picture = known_picture(picture, polarisation)
    wide = None
    if truth("continuum", continuum):
        if start is not None or prior is not None or positive:
            raise InputError("continuum=True: start, prior and positive are for shells alone")
        wide = sorted({n for own in fitting.orders_of(orders) for n in own})
    request = fitting.request_of(shells, orders, shape, free, background, range, positive, wide)
    return Fit(fitting.fit_picture(picture, request, start, prior))


def known_picture(picture: Picture | np.ndarray, polarisation: float | str | None) -> Picture:
    """The picture of an argument, which may be an array of values.

    Raises:
        InputError: the values or the polarisation are not what is expected.
    """
    if not isinstance(picture, Picture):
        known = meaning("picture", _values(picture))
        picture = Picture(known.counts, noise=known.noise, notes=known.notes)
        picture = without_defects(picture)
    if polarisation is None:
        return picture
    return dataclasses.replace(picture, polarisation=fitting.angle_of(polarisation))


def _values(picture: Any) -> np.ndarray:
    """The array of an argument that is no `Picture`; pixels that it masks are NaN."""
    if not isinstance(picture, str | bytes | pathlib.Path | Fit):
        try:
            values = np.ma.asanyarray(picture)
        except (TypeError, ValueError):
            values = None
        if values is not None and values.dtype.kind in "biuf":
            if np.ma.is_masked(picture):
                return values.astype(np.float64).filled(np.nan)
            return np.asarray(values)
    raise InputError(
        f"picture={shown(picture)}: expected a Picture (sevi_jax.load reads one from a file) or a "
        "real array of counts [rows, columns]"
    )
