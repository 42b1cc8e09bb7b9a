"""The report's figures, recomputed in float64 from the betas that it lists."""

import functools
import importlib.metadata
import json
import pathlib
import subprocess

import jax
import numpy as np
import pytest
import small

from sevi_jax.network.run import load_run
from sevi_jax.results import report
from sevi_jax.results.cases import Cases
from sevi_jax.synthesis.prior import beta_moments

# Two files, with more orders than the network has and with fewer.
LONG, SHORT = 14, 5


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@functools.cache
def run():
    return load_run(small.trained_run())


def some_cases(name, number, orders):
    rng = np.random.default_rng(orders)
    return Cases(
        file=name,
        ids=rng.integers(0, 100, (number, 2)),
        counts=rng.poisson(4.0, (number, 32, 32)).astype(np.uint32),
        radius=np.sort(rng.uniform(0.3, 0.9, (number, 2)), axis=1),
        beta=rng.normal(0.2, 0.2, (number, 2, orders)),
        sigma=np.full((number, 2), 0.01),
        electrons=np.full((number, 2), 2048.0),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder, what was judged, and the report that was written."""
    folder = tmp_path_factory.mktemp("report") / "new"
    judged = some_cases("a.h5", 5, LONG), some_cases("b.h5", 4, SHORT)
    pictures = [x for part in judged for x in report.judge_cases(run(), part)]
    said = report.write_report(folder, run(), pictures)
    found = json.loads((folder / "report.json").read_text())
    assert found == said
    return folder, judged, found


def distances(pred, true):
    """The metric by quadrature: densities at Gauss nodes, their difference squared, integrated."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    total = 0.0
    for p, t in zip(pred, true, strict=True):
        series = np.zeros(2 * max(len(p), len(t)) + 1)
        series[2 : 2 * len(p) + 1 : 2] += p
        series[2 : 2 * len(t) + 1 : 2] -= t
        values = np.polynomial.legendre.legval(nodes, series)
        total += np.sqrt((weights * values**2).sum())
    return total


def expected_figures(images):
    """The figures of the issue, from the list of pictures alone."""
    prior_mean = beta_moments(run().network.prior)[0]
    distance = np.array([distances(x["beta_pred"], x["beta_true"]) for x in images])
    guess = [distances(prior_mean, x["beta_true"]) for x in images]
    cut = [[(b + [0.0] * 12)[:12] for b in x["beta_true"]] for x in images]
    error = np.array([x["beta_pred"] for x in images]) - np.array(cut)
    squared = [
        distances([p], [t]) ** 2
        for x in images
        for p, t in zip(x["beta_pred"], x["beta_true"], strict=True)
    ]
    weights = 2 / (4 * np.arange(1, 13) + 1)
    radius = [np.subtract(x["radius_pred"], x["radius_true"]) for x in images]
    rmse = np.sqrt((error**2).mean(axis=(0, 1)))
    ordered = np.sort(distance)
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    p95 = ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    return {
        "distance": pytest.approx(
            {
                "count": len(images),
                "mean": distance.mean(),
                "median": np.median(distance),
                "p95": p95,
            },
            rel=1e-4,
        ),
        "prior_mean_distance": pytest.approx(np.mean(guess), rel=1e-4),
        "averaged_relative_error": pytest.approx(
            np.sqrt(np.mean(squared) / weights.sum()) / 0.7, rel=1e-4
        ),
        "beta_rmse": pytest.approx(
            {str(2 * i + 2): value for i, value in enumerate(rmse)}, rel=1e-4
        ),
        "radius_mae": pytest.approx(np.abs(radius).mean(), rel=1e-4),
    }


def test_figures_over_all_pictures_and_per_file(written):
    _, _, found = written
    images = found["images"]
    assert {key: found[key] for key in expected_figures(images)} == expected_figures(images)
    assert list(found["files"]) == ["a.h5", "b.h5"]
    for name, figures in found["files"].items():
        assert figures == expected_figures([x for x in images if x["file"] == name])


def test_every_picture_is_listed_with_its_truth(written):
    _, judged, found = written
    images = iter(found["images"])
    for part in judged:
        prediction = run().predict(part.counts)
        for i in range(len(part.ids)):
            image = next(images)
            assert image["file"] == part.file
            assert image["distribution_ids"] == part.ids[i].tolist()
            assert image["electrons"] == part.counts[i].sum()
            np.testing.assert_allclose(image["beta_true"], part.beta[i], rtol=1e-6)
            np.testing.assert_allclose(image["beta_pred"], prediction.beta[i], rtol=1e-6)
            np.testing.assert_allclose(image["radius_true"], part.radius[i], rtol=1e-6)
            distance = distances(image["beta_pred"], image["beta_true"])
            assert image["distance"] == pytest.approx(distance, rel=1e-4)
    assert next(images, None) is None


def test_report_says_what_made_it_and_what_beta_means(written):
    _, _, found = written
    assert "1/2 + sum" in found["convention"]
    assert found["run"]["workdir"] == str(small.trained_run())
    assert found["run"]["step"] == run().step
    assert found["run"]["seed"] == small.small_config().seed
    assert found["run"]["devices"] == [jax.devices()[0].device_kind] * run().mesh.size
    for name in ("sevi_jax", "jax", "jaxlib", "numpy"):
        assert found["versions"][name] == importlib.metadata.version(name)
    head = ["git", "-C", str(pathlib.Path(report.__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True).stdout.strip() or None
    assert found["revision"] in (commit, f"{commit}-dirty")


def test_figures_are_drawn_and_nothing_else_is_left(written):
    folder, _, _ = written
    names = {path.name for path in folder.iterdir()}
    parts = ("betas", "errors", "distance", "median_picture")
    assert names == {"report.json"} | {f"report_{part}.png" for part in parts}
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_table_shows_each_file_and_the_whole(written):
    _, _, found = written
    text = report.table(found)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    for name, figures in [*found["files"].items(), ("all", found)]:
        numbers = [figures["distance"][key] for key in ("mean", "median", "p95")]
        numbers.append(figures["prior_mean_distance"])
        assert rows[name] == [str(figures["distance"]["count"])] + [f"{x:.4f}" for x in numbers]
    assert f"{100 * found['averaged_relative_error']:.2f} %" in text


def test_network_without_radii_reports_none():
    single = load_run(small.single_run())
    part = some_cases("c.h5", 3, 12)
    values = (part.radius, part.beta, part.sigma, part.electrons)
    part = Cases(part.file, part.ids[:, :1], part.counts, *(x[:, :1] for x in values))
    found = report.summarise(report.judge_cases(single, part))
    assert "radius_mae" not in found
    assert len(found["beta_rmse"]) == 12
    image = report.judge_cases(single, part)[0]
    assert image.radius_pred is None
    assert image.distance == pytest.approx(distances(image.beta_pred, image.beta_true), rel=1e-4)


def test_loss_curve_is_drawn_from_the_metrics(tmp_path):
    metrics = "metrics.jsonl"
    (tmp_path / metrics).write_bytes((small.trained_run() / metrics).read_bytes())
    report.write_loss_curve(tmp_path)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def hard(name, *, radius=(0.45, 0.75), counts=3.0, beta=None, orders=12):
    """One picture; by default as the prior has them (some 6000 electrons)."""
    prior = run().network.prior[0].beta
    inside = [(low + high) / 2 for low, high, _, _ in prior]
    beta = np.array([inside, inside]) if beta is None else beta
    return Cases(
        file=name,
        ids=np.array([[3, 7]]),
        counts=np.random.default_rng(0).poisson(counts, (1, 32, 32)).astype(np.uint32),
        radius=np.array([radius]),
        beta=beta[None],
        sigma=np.full((1, 2), 0.01),
        electrons=np.full((1, 2), 2048.0),
    )


def reported(tmp_path, *parts):
    judged = [x for part in parts for x in report.judge_cases(run(), part)]
    found = report.write_report(tmp_path, run(), judged)
    return found, report.table(found)


def test_table_shows_the_worst_pictures_and_what_makes_them_hard(tmp_path):
    usual = hard("a.h5")
    wide = usual.beta[0] + np.eye(2, 12) * [[9.0], [0.0]]
    for part, cause in (
        (usual, "nothing unusual"),
        (hard("a.h5", radius=(0.5, 0.503)), "radii 0.003 apart"),
        (hard("a.h5", counts=1.0), " electrons, where the prior has 4000 and more"),
        (hard("a.h5", radius=(0.5, 0.95)), "R 0.950 outside 0.3 to 0.9"),
        (hard("a.h5", beta=wide), f"shell 1: beta_2 = {wide[0, 0]:.3f} outside the prior"),
    ):
        found, table = reported(tmp_path, part)
        (line,) = table.split("worst pictures:\n")[1].splitlines()[:1]
        assert line.startswith(f"  {found['distance']['mean']:.4f}  a.h5 [3, 7]: R 0."), line
        assert f"{part.counts.sum()} electrons: " in line
        assert line.endswith(cause) or f": {cause}" in line or cause in line, line
        assert ("nothing unusual" in line) == (part is usual), line
    found, _ = reported(tmp_path, *(some_cases(f"{x}.h5", 3, 12) for x in "ab"))
    distance = sorted((x["distance"] for x in found["images"]), reverse=True)
    assert [x["distance"] for x in found["worst"]] == distance[:3]


def test_orders_that_the_network_has_not_are_said(tmp_path):
    """The distance of the true density to itself without them, by quadrature."""
    rng = np.random.default_rng(2)
    beta = rng.normal(0.0, 0.3, (2, 14))
    found, table = reported(tmp_path, hard("a.h5", beta=beta))
    missing = distances(beta[:, :12], beta)
    assert found["orders"] == {
        "truth": 28, "network": 24, "distance_of_missing": pytest.approx(missing, rel=1e-4)
    }  # fmt: skip
    assert "the truth has orders up to 28, the network up to 24: those missing count" in table
    assert f"{missing:.4f} of distance on average" in table
    beta[:, 12:] = 0
    found, table = reported(tmp_path, hard("a.h5", beta=beta))
    assert found["orders"]["truth"] == 24
    assert "orders up to" not in table
