"""Simulated files hold what their truth says, checked with float64 NumPy and known moments.

False alarms: a z-score beyond 5 has the chance 6e-7; about 200 are looked at, so with free seeds a
correct program fails once in 8000 runs.
"""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import small

from sevi_jax import simulation
from sevi_jax.config import default_config
from sevi_jax.data.events import count_electrons, file_kind, read_truth
from sevi_jax.errors import InputError

FRACTION = 0.6


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


def small_config():
    config = default_config()
    config.seed = 11
    config.prior.radius = ((0.3, 0.5), (0.6, 0.9))
    config.prior.electrons = ((30_000, 30_000), (10_000, 10_000))
    config.synthesis.chunk = 2**13
    config.image.size = 64
    return config


def tables(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def z_score(sample, expected):
    """How many standard errors the mean is off; for samples that are not constant."""
    return (sample.mean() - expected) / (sample.std() / np.sqrt(len(sample)))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    path = tmp_path_factory.mktemp("distributions") / "train10.h5"
    said = simulation.simulate(
        small_config(), "distributions", path, number=4, progress=False, detected=FRACTION
    )
    return path, said


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "train0.h5"
    simulation.simulate(
        small_config(), "frames", path, number=20, frame_size=256, per_frame=70.0,
        detected=FRACTION, progress=False,
    )  # fmt: skip
    return path


def assert_electrons_follow(rows, truth, which):
    """Moments of r and of every order of cos(theta), one shell after the other."""
    ids = rows.dtype.names[0]
    for shell in range(which):
        mine = rows[rows[ids] == shell]
        r, cosine = mine["r"], mine["cos(theta)"]
        deviation = (r - truth.radius[shell]) / truth.sigma[shell]
        assert abs(z_score(deviation, 0)) < 5
        assert abs(z_score(deviation**2, 1)) < 5
        assert abs(z_score(cosine, 0)) < 5
        for order in range(1, truth.beta.shape[1] + 1):
            # int P_n I dc = 2 beta_n / (2 n + 1), because the P_n are orthogonal
            values = np.polynomial.legendre.Legendre.basis(2 * order)(cosine)
            assert abs(z_score(values, 2 * truth.beta[shell, order - 1] / (4 * order + 1))) < 5


def assert_positions_follow(generated, detected):
    """z = r cos(theta), and x = r sin(theta) cos(phi) with phi uniform."""
    source = generated[detected["ElectronId"]]
    np.testing.assert_array_equal(generated["ElectronId"], np.arange(len(generated)))
    r, cosine = source["r"], source["cos(theta)"]
    np.testing.assert_allclose(detected["z"], r * cosine, rtol=2e-7)
    reach = r * np.sqrt((1 - cosine) * (1 + cosine))
    assert (np.abs(detected["x"]) <= reach * (1 + 1e-6) + 1e-7).all()
    away = reach > 1e-3
    phi_cosine = (detected["x"] / np.where(away, reach, 1))[away]
    assert abs(z_score(phi_cosine, 0)) < 5
    assert abs(z_score(phi_cosine**2, 0.5)) < 5


def assert_detected_at_random(generated, detected):
    """The binomial fraction, in all electrons and in halves by place."""
    seen = np.zeros(len(generated), bool)
    seen[detected["ElectronId"]] = True
    halves = [np.ones(len(seen), bool)]
    halves += [generated[name] > np.median(generated[name]) for name in ("r", "cos(theta)")]
    for half in halves:
        error = np.sqrt(FRACTION * (1 - FRACTION) * half.sum())
        assert abs(seen[half].sum() - FRACTION * half.sum()) < 5 * error


def test_distributions_are_what_they_say(distributions):
    path, said = distributions
    data, truth = tables(path), read_truth(path)
    generated, detected = data["GeneratedElectrons"], data["DetectedElectrons"]
    assert file_kind(path) == "distributions"
    assert np.bincount(generated["DistributionId"]).tolist() == [30_000, 10_000] * 2
    assert "4 distributions, 80000 electrons" in said
    assert f"{len(detected)} of them" in said
    assert_electrons_follow(generated, truth, 4)
    assert_positions_follow(generated, detected)
    assert_detected_at_random(generated, detected)
    # drawn anew in every chunk, and in every distribution
    assert len(np.unique(generated["r"])) > 0.9 * len(generated)
    first = [generated[generated["DistributionId"] == d]["r"][:5000] for d in range(4)]
    correlation = np.corrcoef(first)[np.triu_indices(4, 1)]
    assert (np.abs(correlation) < 5 / np.sqrt(5000)).all()


def test_distributions_follow_the_prior_in_turn(distributions):
    truth = read_truth(distributions[0])
    np.testing.assert_array_equal(truth.ids, range(4))
    assert ((truth.radius[::2] > 0.3) & (truth.radius[::2] < 0.5)).all()
    assert ((truth.radius[1::2] > 0.6) & (truth.radius[1::2] < 0.9)).all()
    low, high, _, _ = np.transpose(small_config().prior.beta)
    assert ((truth.beta >= np.float32(low)) & (truth.beta <= np.float32(high))).all()
    assert len(np.unique(truth.beta[:, 0])) == 4
    for column in (truth.radius, truth.sigma, truth.beta):
        np.testing.assert_array_equal(column, column.astype(np.float32))


def test_distributions_are_counted(distributions):
    path, _ = distributions
    data = tables(path)
    detected = data["DetectedElectrons"]
    distribution = data["GeneratedElectrons"]["DistributionId"][detected["ElectronId"]]
    (group,) = count_electrons(path, 32, progress=False)
    inside = (np.abs(detected["x"]) < 1) & (np.abs(detected["z"]) < 1)
    np.testing.assert_array_equal(group.inside, np.bincount(distribution[inside]))
    assert group.unmatched == 0
    assert group.counts.sum() + group.outside.sum() == len(detected)


def test_same_seed_same_file_and_number_only_appends(distributions, tmp_path):
    path, _ = distributions
    config = small_config()
    simulation.simulate(config, "distributions", tmp_path / "a.h5", progress=False)
    assert (tmp_path / "a.h5").read_bytes() == path.read_bytes()
    simulation.simulate(config, "distributions", tmp_path / "b.h5", number=3, progress=False)
    fewer = tables(tmp_path / "b.h5")
    for name, rows in tables(path).items():
        np.testing.assert_array_equal(fewer[name], rows[: len(fewer[name])])
    simulation.simulate(
        config, "distributions", tmp_path / "a.h5", seed=12, electrons="100,200", progress=False
    )
    other = tables(tmp_path / "a.h5")
    counts = np.bincount(other["GeneratedElectrons"]["DistributionId"])
    assert ((counts >= 100) & (counts <= 200)).all()
    assert set(counts) != {100}
    assert not (
        other["DistributionParameters"]["R"] == tables(path)["DistributionParameters"]["R"]
    ).any()


def test_pair_is_what_it_says(frames):
    data, truth = tables(frames), read_truth(frames)
    generated, detected = data["GeneratedElectrons"], data["DetectedElectrons"]
    assert file_kind(frames) == "pair"
    assert data["Truth"]["SphereId"].tolist() == [0, 1]
    assert 0.3 < data["Truth"]["R"][0] < 0.5 < 0.6 < data["Truth"]["R"][1] < 0.9
    assert_electrons_follow(generated, truth, 2)
    assert_positions_follow(generated, detected)
    assert_detected_at_random(generated, detected)
    # shares of the shells, 3 to 1
    assert abs(z_score(generated["SphereId"].astype(float), 0.25)) < 5
    # Poisson numbers per frame: total, and variance over mean (of 20 frames: 1 +- 0.32)
    numbers = np.bincount(detected["ImageId"], minlength=20)
    assert abs(numbers.sum() - 20 * 70) < 5 * np.sqrt(20 * 70)
    assert 0.2 < numbers.var() / 70 < 3
    (group,) = count_electrons(frames, 32, progress=False)
    assert group.inside.sum() + group.outside.sum() == len(detected)


def test_frames_show_their_electrons(frames):
    data = tables(frames)
    detected = data["DetectedElectrons"]
    pictures = data["FinalImage"]["Image"]
    assert pictures.shape == (20, 256, 256)
    np.testing.assert_array_equal(data["FinalImage"]["ImageId"], range(20))
    pixel = np.floor((np.stack([detected["x"], detected["z"]]) + 1) * 128).astype(int)
    # peak 100 +- 10; the pixel's average of a spot with s = 1.9 pixels is a tenth lower
    assert (pictures[detected["ImageId"], pixel[0], pixel[1]] > 40).all()
    # A spot's sum is 2 pi A s^2 / sqrt(1 - rho^2) pixels, +- 17 %; about 1 % is cut off or clipped.
    width = 0.015**2 + 0.001**2
    expected = 2 * np.pi * 100 * width * 128**2 * 1.005 * len(detected)
    error = 0.17 / np.sqrt(len(detected))
    assert abs(pictures.sum(dtype=float) / expected - 0.99) < 5 * error + 0.01


def test_frames_alone_are_the_same_frames(frames, tmp_path):
    path = tmp_path / "finaltest.h5"
    simulation.simulate(
        small_config(), "frames", path, number=17, frame_size=256, per_frame=70.0, no_truth=True,
        progress=False,
    )  # fmt: skip
    assert file_kind(path) == "frames"
    data = tables(path)
    assert list(data) == ["FinalImage"]
    np.testing.assert_array_equal(data["FinalImage"], tables(frames)["FinalImage"][:17])


@pytest.mark.parametrize("renderer", ["electrons", "poisson"])
def test_images_are_full_pictures_of_their_shells(tmp_path, renderer):
    config = small_config()
    config.image.fold = True
    config.synthesis.exposure = (0.01, 0.02)
    config.synthesis.renderer = renderer
    config.eval.batch = 4
    path = tmp_path / "images.h5"
    simulation.simulate(config, "images", path, number=6, progress=False)
    assert file_kind(path) == "images"
    data = tables(path)
    counts, shells = data["images"].astype(float), data["Shells"].reshape(6, 2)
    assert counts.shape == (6, 64, 64)
    np.testing.assert_array_equal(shells["electrons"], [[30_000, 10_000]] * 6)
    assert (np.abs(counts.sum((1, 2)) - 40_000) < (0.5 if renderer == "electrons" else 1000)).all()
    assert len(np.unique(shells["R"])) == 12
    # nearest point of every pixel to the centre: nothing beyond the outer shell, much at its edge
    corner = np.maximum(np.abs(np.arange(64) - 31.5) - 0.5, 0) / 32
    distance = np.hypot(corner[:, None], corner)
    for picture, (inner, outer) in zip(counts, shells, strict=True):
        assert picture[distance > outer["R"] + 6 * outer["sigma_R"]].sum() == 0
        assert picture[distance > inner["R"] + 6 * inner["sigma_R"]].sum() > 2000
        # E[z^2] = <r^2> (1/3 + 4/15 beta_2); pixels 1/32 wide add 1/12 of their square
        z = (np.arange(64) - 31.5) / 32
        second = sum(
            shell["electrons"] * (shell["R"] ** 2 + shell["sigma_R"] ** 2)
            * (1 / 3 + 4 / 15 * shell["beta"][0])
            for shell in (inner, outer)
        ) / 40_000  # fmt: skip
        measured = (picture.sum(0) * (z**2)).sum() / picture.sum() - 1 / 32**2 / 12
        # z^2 < 0.81 spreads by at most 0.41; binning moves a steep edge a little
        assert abs(measured - second) < 5 * 0.41 / np.sqrt(40_000) + 0.002


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("movies", {}, "--kind=movies must be one of distributions, frames, images"),
        ("images", {"number": 0}, "--number=0 must be from 1"),
        ("images", {"seed": -1}, "--seed=-1 must be from 0"),
        ("images", {"detected": 0.5}, "--detected goes with --kind=distributions and frames"),
        ("frames", {"electrons": "5"}, "--electrons goes with --kind=distributions, not"),
        ("distributions", {"detected": 0.0}, "--detected=0.0 must be above 0"),
        ("distributions", {"detected": 1.5}, "--detected=1.5 must be above 0"),
        ("distributions", {"detected": float("nan")}, "--detected=nan must be above 0"),
        ("distributions", {"electrons": "5,x"}, "--electrons=5,x must be one whole number"),
        ("distributions", {"electrons": "5,3"}, "--electrons=5,3 must be"),
        ("distributions", {"electrons": "1,2,3"}, "--electrons=1,2,3 must be"),
        ("distributions", {"electrons": "0"}, "--electrons=0 must be"),
        ("distributions", {"electrons": "1000000000"}, "--number=4 gives 4000000000 electrons"),
        ("frames", {"per_frame": 0.0}, "--per_frame=0.0 must be above 0"),
        ("frames", {"frame_size": 8}, "--frame_size=8 must be from 16"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(tmp_path, kind, options, message):
    with pytest.raises(InputError) as error:
        simulation.simulate(small_config(), kind, tmp_path / "a.h5", progress=False, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--output=.* must be a name that ends in \.h5"):
        simulation.simulate(small_config(), "images", tmp_path / "a.npy", progress=False)


def test_file_keeps_its_old_contents_when_drawing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_text("old")

    def broken(*args, **kwargs):
        raise RuntimeError("device lost")

    monkeypatch.setattr(simulation, "_draw_chunk", broken)
    with pytest.raises(RuntimeError, match="device lost"):
        simulation.simulate(small_config(), "distributions", path, progress=False)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def synthesize(tmp_path, *arguments):
    """Runs the command as a user does, from another folder."""
    return subprocess.run(
        [sys.executable, "-m", "sevi_jax.synthesize", *arguments],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def write_config(tmp_path):
    (tmp_path / "tiny.py").write_text(
        "from sevi_jax.config import default_config\n\n\n"
        "def get_config():\n    return default_config()\n"
    )


def test_help_teaches(tmp_path):
    done = synthesize(tmp_path, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "python -m sevi_jax.synthesize --config=" in done.stdout
    for flag in ("config", "kind", "output", "number", "seed", "electrons", "detected",
                 "per_frame", "frame_size", "no_truth"):  # fmt: skip
        assert f"\n  --{flag}\n" in done.stdout


def test_command_writes_the_file(tmp_path):
    write_config(tmp_path)
    done = synthesize(
        tmp_path, "--config=tiny.py", "--kind=distributions", "--output=new/a.h5", "--number=1",
        "--electrons=500", "--config.seed=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("new/a.h5: 1 distributions, 500 electrons, ")
    assert file_kind(tmp_path / "new" / "a.h5") == "distributions"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--config=tiny.py", "--config.train.stepps=3"), "--config.train.stepps"),
        (("--config=missing.py",), "--config=missing.py: no such file"),
    ],
)
def test_mistake_on_the_command_line(tmp_path, arguments, named):
    write_config(tmp_path)
    done = synthesize(tmp_path, *arguments, "--kind=images", "--output=a.h5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("sevi_jax.synthesize: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"tiny.py"}
