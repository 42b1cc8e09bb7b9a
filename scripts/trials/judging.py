"""Statistics of fits whose truth is known; knows no fit and no picture.

A trial writes one dictionary per picture (a row); `summarise` turns rows into figures, and
`table` prints those of several cases. A row holds

    names, true, values, errors   of every parameter that was fitted, lists of one length
    distance, bound               of the angular distributions, and its mean at the fit's own errors
    p_value, converged, reason    of the fit
    warnings                      of the fit
    shells, true_shells           how many were found, how many there are
    seconds                       of the fit
"""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
# Half-widths of the 68.27 % and the 95 % interval of a normal distribution, in standard errors.
WITHIN_68, WITHIN_95 = 1.0, 1.959964


def coverage(pulls: Sequence[np.ndarray]) -> dict[str, float]:
    """Computes how many parameters lie within their intervals.

    Parameters of one picture are correlated, so the binomial error of all parameters together is
    too small; the error "by picture" comes from the scatter of the pictures' own fractions.

    Args:
        pulls: (value - truth) / error of every picture's parameters, ``[P]`` each; those that are
            not finite count as outside.

    Returns:
        Number of parameters; fractions within the 68 % and the 95 % interval, each with its
        binomial error and its error by picture; mean pull, and root of the mean square.
    """
    pulls = [np.asarray(one, np.float64) for one in pulls if len(one)]
    if not pulls:
        return {"parameters": 0}
    pooled = np.concatenate(pulls)
    found: dict[str, float] = {"parameters": len(pooled)}
    sizes = np.array([len(one) for one in pulls])
    for name, limit in (("68", WITHIN_68), ("95", WITHIN_95)):
        inside = np.array([(np.abs(one) < limit).sum() for one in pulls])
        share = inside.sum() / len(pooled)
        found[name] = float(share)
        found[f"{name}_error"] = math.sqrt(share * (1 - share) / len(pooled))
        # error of a ratio of sums over independent pictures
        spread = float(((inside - share * sizes) ** 2).sum())
        found[f"{name}_error_by_picture"] = math.sqrt(spread) / len(pooled)
    finite = pooled[np.isfinite(pooled)]
    found["mean_pull"] = float(finite.mean()) if finite.size else math.nan
    found["rms_pull"] = float(np.sqrt((finite**2).mean())) if finite.size else math.nan
    return found


def uniformity(p_values: Iterable[float]) -> float:
    """Returns the Kolmogorov-Smirnov p-value of p-values against the uniform distribution."""
    values = np.array([p for p in p_values if p is not None and np.isfinite(p)])
    return float(stats.kstest(values, "uniform").pvalue) if values.size else math.nan


def angular_distance(
    orders: Sequence[Sequence[int]], values: Sequence[np.ndarray], true: Sequence[np.ndarray]
) -> float:
    """Computes the distance of angular distributions, summed over the shells.

    It is the L2 distance of the densities of cos(theta): ``sqrt(sum 2 / (2 n + 1) (db_n / 2)^2)``
    with beta in the literature's convention.

    Args:
        orders: of every shell, ``[L]`` each.
        values: beta, ``[L]`` each.
        true: likewise.
    """
    shells = zip(orders, values, true, strict=True)
    return float(sum(_norms(order, np.subtract(a, b)[None])[0] for order, a, b in shells))


def expected_distance(
    orders: Sequence[Sequence[int]], covariances: Sequence[np.ndarray], draws: int = 4096
) -> float:
    """Computes the mean of `angular_distance` where errors are normal with these covariances.

    Args:
        orders: of every shell, ``[L]`` each.
        covariances: of every shell's beta, ``[L, L]`` each.
        draws: of the mean; its relative error is below 1 / sqrt(draws).

    Returns:
        The mean; NaN where a covariance is not finite.
    """
    rng = np.random.default_rng(0)
    total = 0.0
    for order, covariance in zip(orders, covariances, strict=True):
        covariance = np.asarray(covariance, np.float64)
        if not np.isfinite(covariance).all():
            return math.nan
        errors = rng.multivariate_normal(
            np.zeros(len(order)), covariance, draws, check_valid="ignore"
        )
        total += _norms(order, errors).mean()
    return float(total)


def _norms(orders: Sequence[int], differences: np.ndarray) -> np.ndarray:
    weight = 2 / (2 * np.asarray(orders, np.float64) + 1) / 4
    return np.sqrt((differences**2) @ weight)


def kind(name: str) -> str:
    """Returns the kind of a parameter: ``radius`` of ``radius 2``."""
    return name.partition(" ")[0]


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """Computes the figures of one case.

    Coverage, distance and p-values are those of fits that converged on the right number of shells.

    Args:
        rows: of its pictures.

    Returns:
        Numbers of pictures; shares; `coverage` of all parameters and of each kind; distance over
        its bound with its standard error; p-value of the p-values.
    """
    rows = list(rows)
    right = [row for row in rows if row["shells"] == row["true_shells"]]
    good = [row for row in right if row["converged"]]
    summary: dict[str, Any] = {
        "pictures": len(rows),
        "right_shells": len(right),
        "converged": sum(bool(row["converged"]) for row in rows),
        "good": len(good),
        "warned": sum(bool(row.get("warnings")) for row in rows),
        "seconds": float(np.median([row["seconds"] for row in rows])) if rows else math.nan,
    }
    reasons = [row["reason"] for row in rows if not row["converged"]]
    summary["reasons"] = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    pulls = [_pulls(row) for row in good]
    summary["coverage"] = coverage(pulls)
    kinds = [np.array([kind(name) for name in row["names"]]) for row in good]
    summary["kinds"] = {
        str(name): coverage([p[k == name] for p, k in zip(pulls, kinds, strict=True)])
        for name in dict.fromkeys(name for k in kinds for name in k)
    }
    summary["distance"] = _ratio(good)
    summary["uniformity"] = uniformity(row["p_value"] for row in good)
    summary["small_p"] = sum((row["p_value"] or 0) < 1e-3 for row in good)
    return summary


def _pulls(row: Row) -> np.ndarray:
    values, true, errors = (np.array(row[x], np.float64) for x in ("values", "true", "errors"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (values - true) / errors


def _ratio(rows: Sequence[Row]) -> dict[str, float]:
    """Sum of the distances over sum of the bounds, with the standard error of that."""
    pairs = np.array([(row["distance"], row["bound"]) for row in rows], np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(pairs):
        return {"over_bound": math.nan, "error": math.nan}
    ratio = pairs[:, 0].sum() / pairs[:, 1].sum()
    spread = np.sqrt(((pairs[:, 0] - ratio * pairs[:, 1]) ** 2).sum()) / pairs[:, 1].sum()
    return {"over_bound": float(ratio), "error": float(spread)}


COLUMNS = (
    "case", "pictures", "shells right", "converged", "parameters", "68 %", "95 %", "mean pull",
    "distance / bound", "KS of p", "p < 0.001", "s",
)  # fmt: skip


def table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Prints summaries as a Markdown table, one case a line."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for case, found in summaries.items():
        cells = [case, *(str(found[x]) for x in ("pictures", "right_shells", "converged"))]
        lines.append("| " + " | ".join(cells + _figures(found)) + " |")
    return "\n".join(lines)


def _figures(found: Mapping[str, Any]) -> list[str]:
    part, distance = found["coverage"], found["distance"]
    if not part["parameters"]:
        return ["-"] * 7 + [f"{found['seconds']:.2f}"]
    return [
        str(part["parameters"]),
        *(f"{100 * part[x]:.1f} ± {100 * part[f'{x}_error']:.1f}" for x in ("68", "95")),
        f"{part['mean_pull']:+.3f}",
        f"{distance['over_bound']:.3f} ± {distance['error']:.3f}",
        f"{found['uniformity']:.3g}",
        str(found["small_p"]),
        f"{found['seconds']:.2f}",
    ]


def kinds_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Prints the coverage of each kind of parameter, one case and kind a line."""
    lines = ["| case | parameter | number | 68 % | 95 % | mean pull |", "|---" * 6 + "|"]
    for case, found in summaries.items():
        for name, part in found["kinds"].items():
            lines.append(
                f"| {case} | {name} | {part['parameters']} | "
                f"{100 * part['68']:.1f} ± {100 * part['68_error']:.1f} | "
                f"{100 * part['95']:.1f} ± {100 * part['95_error']:.1f} | "
                f"{part['mean_pull']:+.3f} |"
            )
    return "\n".join(lines)


class Rows:
    """Rows of a trial in a file of JSON lines, so that one that was stopped goes on.

    Rows that another revision of the program wrote stay in the file and are left out.
    """

    def __init__(self, path: pathlib.Path, revision: str | None):
        """Opens the file.

        Args:
            path: of the file, which need not exist.
            revision: of the program that writes now; None takes rows of any.
        """
        self._path, self._revision = path, revision

    def read(self) -> dict[int, dict[str, Any]]:
        """Returns the rows by number of the picture; a last line that is cut off is left out."""
        rows = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if self._revision is None or row.get("revision") == self._revision:
                rows[row["picture"]] = row
        return rows

    def add(self, number: int, row: Row) -> None:
        """Appends the row of a picture."""
        line = json.dumps({"picture": number, "revision": self._revision, **row})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}" if self._is_cut() else line)
            file.write("\n")

    def _is_cut(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(0, 2)
            if not file.tell():
                return False
            file.seek(-1, 2)
            return file.read(1) != b"\n"
