"""The calibration of radii in energy, from rings of known energy.

The kinetic energy of the electrons of a ring of radius R is ``E = c R^2``, or, where the lenses of
the spectrometer are far from ideal, ``E = c R^2 (1 + d R^2)``. `calibrate` finds c (and d) from
rings of one or several fits. Energies of other shells are in `results.energies`.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import uncertainties
from scipy import special
from uncertainties import UFloat

import sevi_jax
from sevi_jax.arguments import shown, target
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError
from sevi_jax.physics.units import PER_EV, energy_unit
from sevi_jax.results.correlated import constant, correlated, covariance_of

if TYPE_CHECKING:
    from sevi_jax.results.figures.style import Drawing

Energy = float | tuple[float, float] | UFloat

_KIND = "sevi_jax calibration"
_UNLIKELY = 1e-3  # p-value below which the rings contradict the calibration
_MOST_BYTES = 64 << 20
_SAME = 1e-3  # of its error: a radius that differs by less is the same number
_STEPS = 100  # of the fit; from half of them on they are damped


@dataclasses.dataclass(frozen=True)
class Ring:
    """A ring of known energy.

    Attributes:
        picture: name of the picture that it was fitted in.
        shell: its index in the fit, from 0.
        radius: pixels.
        energy: kinetic energy, eV.
    """

    picture: str
    shell: int
    radius: UFloat
    energy: UFloat


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """E = c R^2 (1 + d R^2), R in pixels and E in eV; see `calibrate`.

    Attributes:
        values: c, and d where it was fitted, ``[1]`` or ``[2]``.
        rings: what it was made from.
        sensitivity: derivatives of `values` by the radii and then by the energies of the rings,
            ``[1 or 2, 2 N]``.
        chi_square: sum of the squared residuals over their variances.
    """

    values: np.ndarray
    rings: tuple[Ring, ...]
    sensitivity: np.ndarray
    chi_square: float

    @functools.cached_property
    def _correlated(self) -> list[UFloat]:
        inputs: Any = self.inputs
        away = [x - x.nominal_value for x in inputs]
        found = []
        for value, row in zip(self.values, self.sensitivity, strict=True):
            total: Any = constant(float(value))
            for slope, x in zip(row, away, strict=True):
                total = total + float(slope) * x
            found.append(total)
        return found

    @property
    def inputs(self) -> list[UFloat]:
        """Radii (pixels) and then energies (eV) of the rings, ``2 N``."""
        return [ring.radius for ring in self.rings] + [ring.energy for ring in self.rings]

    @property
    def c(self) -> UFloat:
        """eV per pixel^2; correlated with `d` and with the radii of the fits it was made from."""
        return self._correlated[0]

    @property
    def d(self) -> UFloat:
        """Per pixel^2; 0 without error where the second term was not fitted."""
        return self._correlated[1] if len(self.values) == 2 else constant(0.0)

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of `values`, ``[1, 1]`` or ``[2, 2]``."""
        return covariance_of(self._correlated)

    @property
    def degrees_of_freedom(self) -> int:
        """Rings over parameters."""
        return len(self.rings) - len(self.values)

    @property
    def p_value(self) -> float:
        """Probability of a larger `chi_square` if all is right; NaN without degrees of freedom."""
        if not self.degrees_of_freedom:
            return math.nan
        return float(special.gammaincc(self.degrees_of_freedom / 2, self.chi_square / 2))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not right with the calibration, in words."""
        found = []
        if self.p_value < _UNLIKELY:
            found.append(
                f"the rings contradict the calibration (p = {self.p_value:.1g}): is every ring "
                "assigned to its energy, and does E = c R^2 hold?"
            )
        largest = max(ring.radius.nominal_value for ring in self.rings)
        if self.turning_radius < 1.2 * largest:
            found.append(
                f"energies fall again beyond R = {self.turning_radius:.4g} pixels, near the "
                f"largest known radius, {largest:.4g}: the second term is not determined"
            )
        return tuple(found)

    @property
    def turning_radius(self) -> float:
        """The radius beyond which energies would fall, pixels; infinite where there is none."""
        d = self.d.nominal_value
        return math.sqrt(-0.5 / d) if d < 0 else math.inf

    def energy(self, radius: Any) -> Any:
        """Kinetic energy, eV, of a radius, pixels: a `UFloat` of one, numbers of numbers."""
        return _energy(*self._terms(radius), radius)

    def slope(self, radius: Any) -> Any:
        """dE/dR, eV per pixel: a `UFloat` of one, numbers of numbers."""
        return _slope(*self._terms(radius), radius)

    def _terms(self, radius: Any) -> tuple[Any, Any]:
        """c and d with their errors where those of the radius are known."""
        if isinstance(radius, uncertainties.UFloat):
            return self.c, self.d
        return self.c.nominal_value, self.d.nominal_value

    def energy_error(self, radius: Any) -> np.ndarray:
        """Error of the energy of an exact radius, eV: of c and d alone."""
        square = np.square(np.asarray(radius, np.float64))
        c, d = self.c.nominal_value, self.d.nominal_value
        by = np.stack([_energy(1.0, d, radius), c * square * square])[: len(self.values)]
        return np.sqrt(np.maximum(np.einsum("i...,ij,j...->...", by, self.covariance, by), 0))

    def radius(self, energy: Any) -> np.ndarray:
        """Radius of a kinetic energy (eV), pixels, without error; NaN where there is none."""
        energy = np.asarray(energy, np.float64)
        c, d = self.c.nominal_value, self.d.nominal_value
        with np.errstate(invalid="ignore"):
            # of d x^2 + x - E / c = 0, x = R^2, in the form that does not cancel
            root = np.sqrt(1 + 4 * d * energy / c)
            return np.sqrt(2 * energy / c / (1 + root))

    def linked(self, fit: Any) -> "Calibration":
        """The same calibration, correlated with the fit where it was made from rings of that.

        A calibration that was read from a file knows the radii only as numbers. Where it names the
        picture of this fit (in whatever folder), and its radii are those of this fit, they are the
        same variables.
        """
        name = pathlib.PurePath(name_of(fit)).name
        rings = list(self.rings)
        for index, ring in enumerate(rings):
            if pathlib.PurePath(ring.picture).name != name:
                continue
            if ring.shell >= len(fit.shells):
                return self
            radius = fit.shells[ring.shell].radius
            difference = radius.nominal_value - ring.radius.nominal_value
            if not abs(difference) <= _SAME * ring.radius.std_dev:
                return self
            rings[index] = dataclasses.replace(ring, radius=radius)
        return dataclasses.replace(self, rings=tuple(rings))

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the calibration as JSON; the file appears whole or not at all."""
        path = target(path, (".json",))
        rings = [
            {
                "picture": ring.picture,
                "shell": ring.shell + 1,
                "radius_pixels": ring.radius.nominal_value,
                "radius_pixels_error": ring.radius.std_dev,
                "energy_eV": ring.energy.nominal_value,
                "energy_eV_error": ring.energy.std_dev,
            }
            for ring in self.rings
        ]
        text = {
            "kind": _KIND,
            "versions": {"sevi_jax": sevi_jax.__version__},
            "form": "E = c R^2 (1 + d R^2), E in eV, R in pixels",
            "c": self.c.nominal_value,
            "c_error": self.c.std_dev,
            "d": self.d.nominal_value if len(self.values) == 2 else None,
            "d_error": self.d.std_dev if len(self.values) == 2 else None,
            "covariance": self.covariance.tolist(),
            "chi_square": self.chi_square,
            "degrees_of_freedom": self.degrees_of_freedom,
            "p_value": self.p_value if self.degrees_of_freedom else None,
            "rings": rings,
            "rings_covariance": covariance_of(self.inputs).tolist(),
            "sensitivity": self.sensitivity.tolist(),
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(text, indent=2, allow_nan=False) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Calibration":
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or damaged; one line says how.
        """
        found = read_json(path)
        if not isinstance(found, dict) or found.get("kind") != _KIND:
            raise InputError(f"{path}: expected a calibration written by sevi_jax.calibrate")
        try:
            return _from_json(found)
        except KeyError as error:
            raise InputError(f"{path}: the calibration lacks the key {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{path}: the calibration is damaged: {error}") from None

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Formats the calibration for the terminal."""
        lines = [f"E = {'c R^2 (1 + d R^2)' if len(self.values) == 2 else 'c R^2'}"]
        lines.append(f"  c = {self.c:.2u} eV / pixel^2")
        if len(self.values) == 2:
            lines.append(f"  d = {self.d:.2u} / pixel^2")
        for ring in self.rings:
            fitted = self.energy(ring.radius.nominal_value)
            lines.append(
                f"  {ring.picture}, shell {ring.shell + 1}: R = {ring.radius:.2uS} pixels, known "
                f"{ring.energy.nominal_value:.7g} eV, known - fitted "
                f"{(ring.energy.nominal_value - fitted) * 1e3:+.4f} meV"
            )
        p = f"p = {self.p_value:.3g}" if self.degrees_of_freedom else "cannot be tested"
        lines.append(f"  chi-square {self.chi_square:.3g} of {self.degrees_of_freedom}, {p}")
        lines += [f"  WARNING: {text}" for text in self.warnings]
        return "\n".join(lines)

    def plot(self) -> "Drawing":
        """Draws energies against radii, and the residuals; notebooks show it, ``savefig`` saves."""
        from sevi_jax.results.figures import energies as figures

        radius, energy = (
            np.array([getattr(ring, name).nominal_value for ring in self.rings])
            for name in ("radius", "energy")
        )
        errors = np.array([[ring.radius.std_dev, ring.energy.std_dev] for ring in self.rings])
        error = np.hypot(errors[:, 0] * self.slope(radius), errors[:, 1])
        r = np.linspace(0, min(1.05 * radius.max(), self.turning_radius), 400)
        title = f"chi-square {self.chi_square:.3g} of {self.degrees_of_freedom}"
        if self.degrees_of_freedom:
            title += f", p = {self.p_value:.3g}"
        return figures.calibration(
            (r, self.energy(r), self.energy_error(r)), radius, energy, error, title,
            energy - self.energy(radius),
        )  # fmt: skip


def calibrate(
    pairs: Iterable[tuple[Any, Mapping[int, Energy]]],
    second_term: bool = False,
    photon_energy: Energy | None = None,
    unit: str = "eV",
) -> Calibration:
    """Calibrates radii in energy by rings of known energy, in one weighted fit.

    Args:
        pairs: of a fit and ``{index of a shell, from 0: its energy}``; an energy is a number that
            is exact, a pair (value, error), or a `UFloat`. Energies that share an error (of a line
            that several fits have) are made from one `UFloat`.
        second_term: whether d of E = c R^2 (1 + d R^2) is fitted; else it is 0.
        photon_energy: eV; where it is given, the energies of `pairs` are binding energies, and the
            kinetic energy of a ring is photon energy - binding energy.
        unit: of the energies in `pairs`: "eV", "meV" or "cm-1".

    Raises:
        InputError: an argument is not what is expected, or the rings do not determine c (and d).
    """
    per_ev = PER_EV[energy_unit(unit)]
    photon = None if photon_energy is None else photon_value(photon_energy)
    rings = [
        _ring(fit, index, energy, per_ev, photon)
        for fit, known in _checked(pairs)
        for index, energy in known.items()
    ]
    terms = 2 if second_term else 1
    if len(rings) < terms:
        raise InputError(
            f"calibrate: found {len(rings)} rings of known energy, expected at least {terms}"
            + (" for second_term=True" if second_term else "")
        )
    radius, energy = [ring.radius for ring in rings], [ring.energy for ring in rings]
    covariance = covariance_of(radius + energy)
    values, sensitivity, chi_square = _adjusted(
        np.array([x.nominal_value for x in radius]),
        np.array([x.nominal_value for x in energy]),
        covariance,
        terms,
    )
    return Calibration(values, tuple(rings), sensitivity, chi_square)


def energy_value(value: Any, what: str) -> UFloat:
    """An energy of a number, a pair (value, error), or a `UFloat`.

    Raises:
        InputError: it is nothing of that.
    """
    if isinstance(value, uncertainties.UFloat):
        found = value
    else:
        try:
            number, error = value if isinstance(value, Sequence) else (value, 0.0)
            number, error = float(number), float(error)
            found = uncertainties.ufloat(number, error) if error > 0 else constant(number)
            good = error >= 0
        except (TypeError, ValueError):
            good, found = False, constant(math.nan)
        if not good:
            raise InputError(f"{what}={value!r}: expected a number or (value, error)")
    if not (math.isfinite(found.nominal_value) and math.isfinite(found.std_dev)):
        raise InputError(f"{what}={value!r}: expected a finite number with a finite error")
    return found


def photon_value(value: Any) -> UFloat:
    """The energy of a photon, as `energy_value` takes it.

    Raises:
        InputError: it is no energy, or not above 0.
    """
    found: Any = energy_value(value, "photon_energy")
    if not found.nominal_value > 0:
        raise InputError(f"photon_energy={value!r}: expected an energy above 0, eV")
    return found


def check_calibration(calibration: Any) -> None:
    """Checks an argument.

    Raises:
        InputError: it is no calibration.
    """
    if not isinstance(calibration, Calibration):
        raise InputError(
            f"calibration={shown(calibration)}: expected a Calibration (sevi_jax.calibrate makes "
            "one, Calibration.load reads one from a file)"
        )


def name_of(fit: Any) -> str:
    """The name of the picture of a fit."""
    name = getattr(fit, "name", None)
    return str(fit.fitted.picture.name if name is None else name)


def read_json(path: str | pathlib.Path) -> Any:
    """Reads a small file of JSON.

    Raises:
        InputError: it is missing, large, or no JSON.
    """
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: found over {_MOST_BYTES} bytes, expected a small JSON file")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: expected JSON, which ends or breaks: {reason}") from None


def _energy(c: Any, d: Any, radius: Any) -> Any:
    square = radius**2
    return c * square * (1 + d * square)


def _slope(c: Any, d: Any, radius: Any) -> Any:
    return 2 * c * radius * (1 + 2 * d * radius**2)


def _checked(pairs: Any) -> list[tuple[Any, dict[int, Energy]]]:
    try:
        found = [(fit, dict(known)) for fit, known in pairs]
    except (TypeError, ValueError):
        raise InputError(
            "calibrate: expected pairs as [(fit, {0: 0.0123, 1: 0.0456})]: a fit, and the energies "
            "of its shells, which count from 0"
        ) from None
    for fit, _ in found:
        if not hasattr(fit, "shells"):
            raise InputError(f"calibrate: expected a fit, found {type(fit).__name__}")
    return found


def _ring(fit: Any, index: Any, energy: Any, per_ev: float, photon: UFloat | None) -> Ring:
    name, count = name_of(fit), len(fit.shells)
    if (
        isinstance(index, bool)
        or not isinstance(index, int | np.integer)
        or not (0 <= index < count)
    ):
        raise InputError(
            f"calibrate: {name} has no shell of index {index!r}: expected 0 to {count - 1}, "
            f"or in --known shells 1 to {count}"
        )
    what = f"energy of shell {index + 1} of {name}"
    known: Any = energy_value(energy, what)
    known = known / per_ev
    known = known if photon is None else photon - known
    if not known.nominal_value > 0:
        raise InputError(
            f"{what}: the kinetic energy is {known.nominal_value:.6g} eV, expected more than 0"
        )
    radius = fit.shells[index].radius
    if not (radius.nominal_value > 0 and math.isfinite(radius.std_dev)):
        raise InputError(f"shell {index + 1} of {name}: its radius, {radius}, is not determined")
    return Ring(name, int(index), radius, known)


def _adjusted(
    radius: np.ndarray, energy: np.ndarray, covariance: np.ndarray, terms: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fits E = c R^2 (1 + d R^2) where radii and energies both have errors.

    The maximum of the likelihood of both over c, d and the true radii and energies, which minimises
    (z - t)' V^-1 (z - t), z the measured and t the true radii and energies, subject to
    h(t) = e - a r^2 - b r^4 = 0 (a = c, b = c d). With B = dh/dt, A = dh/d(a, b), W = B V B' at the
    last t, one step is (Britt and Luecke, Technometrics 15, 233, 1973)

        h0 = h + B (z - t),  step = -(A' W^-1 A)^-1 A' W^-1 h0,  t = z - V B' W^-1 (h0 + A step).

    It needs no inverse of V: energies may be exact, and may share an error. The weights W follow
    the fit, but are not part of what is minimised, so that noise does not bias c. Where the rings
    contradict the form by hundreds of errors that does not converge; then B stays at the measured
    radii, and half steps are made. Chi-square is as large there as it must be, and c means nothing.

    Args:
        radius: ``[N]`` pixels.
        energy: ``[N]`` eV.
        covariance: V, of radii and energies, ``[2 N, 2 N]``.
        terms: 1 fits c alone, 2 also d.

    Returns:
        ``[terms]``; derivatives by radii and energies ``[terms, 2 N]``; chi-square.
    """
    count, far, high = len(radius), radius.max(), energy.max()
    scale = np.concatenate([np.full(count, far), np.full(count, high)])
    measured = np.concatenate([radius, energy]) / scale
    variance = covariance / np.outer(scale, scale)
    powers = 2 * np.arange(1, terms + 1)
    x, y = measured[:count], measured[count:]
    theta = np.linalg.lstsq(x[:, None] ** (powers - 2), y / x**2, rcond=None)[0]
    true = measured.copy()
    for number in range(_STEPS):
        if number == _STEPS // 2:
            true = measured.copy()
        x, y = true[:count], true[count:]
        basis = x[:, None] ** powers
        by = np.hstack([-np.diag((powers * x[:, None] ** (powers - 1)) @ theta), np.eye(count)])
        away = y - basis @ theta + by @ (measured - true)
        weights = by @ variance @ by.T
        whitened, white_basis = _whitened(weights, away, basis)
        slope, step = _least_squares(white_basis, whitened)
        left = away - basis @ step
        moved = measured - variance @ by.T @ np.linalg.solve(weights, left) - true
        if number >= _STEPS // 2:
            step, moved = step / 2, 0.0
        theta, true = theta + step, true + moved
        errors = np.sqrt(np.diagonal(slope @ slope.T))
        if (np.abs(step) <= 1e-7 * errors + 1e-15).all():
            break
    else:
        raise InputError("calibrate: the fit does not converge; are the energies assigned right?")
    if not theta[0] > 0:
        raise InputError("calibrate: c is not positive; are the energies assigned right?")
    chi_square = float(np.sum((whitened - white_basis @ step) ** 2))
    sensitivity = slope @ _whitened(weights, by)[0] / scale
    values = np.array([theta[0] * high / far**2])
    slopes = sensitivity[:1] * high / far**2
    if terms == 2:
        ratio = theta[1] / theta[0]
        values = np.append(values, ratio / far**2)
        of_ratio = (sensitivity[1] - ratio * sensitivity[0]) / theta[0]
        slopes = np.vstack([slopes, of_ratio / far**2])
    return values, slopes, chi_square


def _whitened(variance: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays ``[N, ...]`` times the inverse of the Cholesky factor of a variance ``[N, N]``."""
    sizes = np.sqrt(np.diagonal(variance))
    if not (sizes > 0).all():
        raise InputError(
            "calibrate: a ring's radius and energy have no error; at least one must have one"
        )
    try:
        factor = np.linalg.cholesky(variance / np.outer(sizes, sizes))
    except np.linalg.LinAlgError:
        raise InputError(
            "calibrate: the errors of two rings are one and the same; is a ring named twice?"
        ) from None
    return [np.linalg.solve(factor, (array.T / sizes).T) for array in arrays]


def _least_squares(basis: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pseudoinverse ``[terms, N]`` of whitened columns, and the least-squares step."""
    sizes = np.linalg.norm(basis, axis=0)
    if np.linalg.matrix_rank(basis / sizes, tol=1e-9) < basis.shape[1]:
        raise InputError(
            "calibrate: the known rings do not determine the second term; expected rings of "
            "different energies"
        )
    inverse = np.linalg.pinv(basis / sizes) / sizes[:, None]
    return inverse, inverse @ away


def _from_json(found: Mapping[str, Any]) -> Calibration:
    """Raises KeyError, TypeError or ValueError where something is missing or no number."""
    rings = found["rings"]
    count = len(rings)
    values = [found["c"]] if found["d"] is None else [found["c"], found["d"]]
    values = _numbers("c, d", values, (len(values),))
    sensitivity = _numbers("sensitivity", found["sensitivity"], (len(values), 2 * count))
    covariance = _numbers("rings_covariance", found["rings_covariance"], (2 * count, 2 * count))
    chi_square = float(_numbers("chi_square", found["chi_square"], ()))
    measured = _numbers(
        "rings",
        [ring["radius_pixels"] for ring in rings] + [ring["energy_eV"] for ring in rings],
        (2 * count,),
    )
    if count < len(values) or not values[0] > 0 or not chi_square >= 0:
        raise ValueError("it needs rings, c above 0 and chi_square from 0 on")
    if (np.diagonal(covariance) < 0).any():
        raise ValueError("rings_covariance has a negative variance")
    inputs = correlated(measured, covariance)
    made = tuple(
        Ring(str(ring["picture"]), int(ring["shell"]) - 1, inputs[k], inputs[count + k])
        for k, ring in enumerate(rings)
    )
    return Calibration(values, made, sensitivity, chi_square)


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(value)
    if array.dtype.kind not in "if" or array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers of shape {shape}")
    return array.astype(np.float64)
