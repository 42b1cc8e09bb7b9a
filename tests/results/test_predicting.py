"""From users' files to an answer file: what is read, what is refused, what is written."""

import json
import types

import h5py
import numpy as np
import pytest
import small
from uncertainties import ufloat

from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.model.components import Shell
from sevi_jax.network.run import load_run
from sevi_jax.results import network_answers, predicting
from sevi_jax.results.calibration import calibrate
from sevi_jax.results.energies import EnergyScale
from sevi_jax.results.predicting import Options, parse_orders, predict_files
from sevi_jax.synthesis.spectrometer import simulate

POSITIONS = [np.random.default_rng(i).uniform(-1, 1, (300 + i, 2)) for i in range(3)]
RADIUS = [0.6, 0.4, 0.8]
BETA = np.full((3, 12), 0.1)
RING = {"radius": 20.0, "sigma": 1.2, "electrons": 9000, "beta": {2: 1.0}}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@pytest.fixture(scope="module")
def run():
    return load_run(small.trained_run())


def read_answer(path):
    """The pictures of an answer in JSON, or the one of an answer file of the course."""
    if path.suffix == ".json":
        return json.loads(path.read_text())["pictures"]
    with h5py.File(path) as file:
        names = file["Pictures"].asstr()[()]
        rows = file["Answer"][()]
    shells = [{"R": row["R"], "beta": row["beta"]} for row in rows]
    return [{"file": names.item(), "shells": shells}]


def predicted(paths, output, **options):
    status = predict_files(paths, output, None, Options(1, figures=False, **options))
    return status, read_answer(output) if output.exists() else None


@pytest.mark.parametrize(
    ("text", "shells", "found"),
    [
        (None, 2, None),
        ("2,4", 2, ((2, 4),)),
        ("4,2,1", "auto", ((1, 2, 4),)),
        ("2,4;2", 2, ((2, 4), (2,))),
    ],
)
def test_orders_for_all_shells_or_each(text, shells, found):
    assert parse_orders(text, shells) == found


@pytest.mark.parametrize("text", ["2,x", "0", "25", "2;", ",", "2;2;2", "2.5"])
def test_strange_orders_are_refused(text):
    with pytest.raises(InputError, match=f"--orders={text}: expected numbers from 1 to 24"):
        parse_orders(text, 2)


def test_every_good_file_gets_its_answer_and_bad_ones_are_said(tmp_path, capsys, monkeypatch):
    for name in ("a.npy", "c.npy"):
        np.save(tmp_path / name, simulate([RING], (64, 64), 1).counts)
    (tmp_path / "b.txt").write_text("no numbers\n" * 100)
    np.save(tmp_path / "dark.npy", np.zeros((64, 64)))
    written = []
    write = predicting.Answers._write

    def counted(self):
        written.append(len(self.records))
        write(self)

    monkeypatch.setattr(predicting.Answers, "_write", counted)
    monkeypatch.setattr(predicting, "_WRITING_SHARE", 1e9)  # as if writing took no time
    paths = [tmp_path / name for name in ("a.npy", "b.txt", "c.npy", "missing.npy", "dark.npy")]
    status, answers = predicted(paths, tmp_path / "out" / "answer.json")
    assert status == 2
    assert [answer["file"] for answer in answers] == [str(paths[0]), str(paths[2])]
    assert answers[0]["shells"] == answers[1]["shells"]
    assert written == [1, 2]  # each when it was there
    said = capsys.readouterr()
    for name in ("b.txt", "missing.npy", "dark.npy"):
        (line,) = (line for line in said.err.splitlines() if name in line)
        assert line.startswith("sevi_jax.predict: ")
    assert f"{paths[0]}: " in said.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["answer.json"]


def test_no_answer_at_all_writes_no_file(tmp_path):
    (tmp_path / "b.txt").write_text("no numbers\n" * 100)
    assert predicted([tmp_path / "b.txt"], tmp_path / "answer.json") == (2, None)
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_figures_and_the_page_lie_beside_the_answer(tmp_path):
    np.save(tmp_path / "a.npy", simulate([RING], (64, 64), 1).counts)
    assert predict_files([tmp_path / "a.npy"], tmp_path / "b.h5", None, Options(1)) == 0
    names = {path.name for path in tmp_path.iterdir()}
    figures = {f"b_1_{kind}.png" for kind in ("fit", "rings", "densities", "betas")}
    assert names == {"a.npy", "b.h5", "b.html"} | figures
    assert (tmp_path / "b.html").read_text().count("data:image/png;base64,") == 4
    (answer,) = read_answer(tmp_path / "b.h5")
    # half-widths, and the course's beta
    assert answer["shells"][0]["R"] == pytest.approx(20 / 32, abs=0.01)
    assert answer["shells"][0]["beta"][0] == pytest.approx(0.5, abs=0.1)


def test_what_the_user_knows_reaches_the_fit(tmp_path):
    counts = simulate([RING], (64, 70), 1, origin=(30.0, 33.0), angle=90.0).counts
    np.save(tmp_path / "a.npy", 3 * counts)
    mask = np.ones(counts.shape)
    mask[:10] = 0
    np.save(tmp_path / "mask.npy", mask)
    _, (answer,) = predicted(
        [tmp_path / "a.npy"],
        tmp_path / "b.json",
        reading={"mask": tmp_path / "mask.npy"},
        known={"origin": (30.0, 33.0), "polarisation": 90.0, "gain": 3.0},
        fit={"range": (0, 40)},
        orders=((2, 4),),
    )
    assert answer["gain"] == 3
    assert answer["origin_pixels"] == [30, 33]
    assert answer["origin_pixels_error"] is None
    assert answer["polarisation_degrees"] == 90
    (shell,) = answer["shells"]
    assert shell["orders"] == [2, 4]
    assert abs(shell["beta"][0] - 1) < 5 * shell["beta_error"][0] < 0.5
    rows, columns = np.ogrid[:64, :70]
    used = np.hypot(rows + 0.5 - 30, columns + 0.5 - 33) <= 40
    assert answer["electrons"] == pytest.approx(counts[10:][used[10:]].sum())


def test_event_files_are_fitted_with_all_even_orders_about_their_middle(tmp_path, monkeypatch):
    path = small.write_pair(tmp_path / "train0.h5", RADIUS[:1], BETA[:1], POSITIONS[0])
    seen = []

    def stop(picture, shells, orders, **options):
        seen.append((picture, orders))
        raise InputError("enough")

    monkeypatch.setattr("sevi_jax.results.fit.fit", stop)
    assert predicted([path], tmp_path / "a.json", blur=0.01)[0] == 2
    (picture, orders), *_ = seen
    assert orders == tuple(range(2, 26, 2))
    assert picture.origin == (256, 256)
    assert picture.blur == 2.56
    assert picture.name == str(path)
    expected = small.histogram(POSITIONS[0], 512)
    np.testing.assert_array_equal(picture.counts, expected.T)  # rows along z


@pytest.mark.parametrize(
    ("make", "shells", "message"),
    [
        (
            lambda at: small.write_pair(at / "a.h5", RADIUS[:2], BETA[:2], POSITIONS[0]),
            1,
            "a.h5: table Truth has 2 shells, expected 1",
        ),
        (
            lambda at: small.write_distributions(at / "a.h5", RADIUS, BETA, POSITIONS),
            2,
            "a.h5: every distribution is a single shell",
        ),
    ],
)
def test_files_of_other_shells_are_refused(tmp_path, capsys, make, shells, message):
    path = make(tmp_path)
    assert predict_files([path], tmp_path / "b.json", None, Options(shells)) == 2
    assert message in capsys.readouterr().err


# Networks.


@pytest.mark.parametrize("polarisation", [0.0, 90.0])
def test_network_sees_the_polarisation_along_its_second_axis(run, polarisation):
    counts = np.random.default_rng(7).poisson(2.0, (64, 64))
    blocks = np.array(
        [[counts[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum() for j in range(32)] for i in range(32)]
    )
    found = network_answers.counts_for(run, Picture(counts, polarisation=polarisation))
    np.testing.assert_array_equal(found, blocks if polarisation else blocks.T)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Picture(np.ones((32, 64))), "found 32 x 64 pixels, expected a square"),
        (Picture(np.ones((48, 48))), "found 48 x 48 pixels, expected a multiple of 32 x 32"),
        (Picture(np.zeros((32, 32))), "a picture without counts"),
        (Picture(np.ones((32, 32)), polarisation=30), "polarisation 30 degrees"),
        (Picture(np.ones((32, 32)), noise="normal"), "found values below 0"),
    ],
)
def test_picture_that_a_network_cannot_take_is_refused(run, picture, message):
    with pytest.raises(InputError, match=message):
        network_answers.counts_for(run, picture)


@pytest.mark.parametrize("name", ["a.json", "a.h5"])
def test_answer_holds_what_the_network_said(tmp_path, run, name):
    counts = np.random.default_rng(9).poisson(4.0, (32, 32)).astype(np.uint32)
    np.save(tmp_path / "a.npy", counts.T)
    prediction = run.predict(counts[None])
    output = tmp_path / name
    assert predict_files([tmp_path / "a.npy"], output, run.workdir, Options(2)) == 0
    (answer,) = read_answer(output)
    factor = 2 if name == "a.json" else 1  # the literature's beta, or the course's
    for s, shell in enumerate(answer["shells"]):
        assert shell["R"] == pytest.approx(float(prediction.radius[0, s]), rel=1e-6)
        np.testing.assert_allclose(shell["beta"], factor * prediction.beta[0, s], rtol=1e-6)
    if name == "a.json":
        assert answer["electrons"] == counts.sum()
        assert answer["shells"][0]["R_pixels"] == pytest.approx(16 * answer["shells"][0]["R"])
        document = json.loads(output.read_text())
        assert (document["convention"], document["run"]["step"]) == ("literature", run.step)
    else:
        with h5py.File(output) as file:
            assert file["Answer"].dtype.names == ("SphereId", "R", "beta")
            assert "AnswerErrors" not in file


def test_network_without_radii_says_null(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(9).poisson(4.0, (32, 32)))
    predict_files([tmp_path / "a.npy"], tmp_path / "a.json", small.single_run(), Options(None))
    ((shell,),) = (answer["shells"] for answer in read_answer(tmp_path / "a.json"))
    assert shell["R"] is None
    assert shell["sigma_pixels"] is None
    assert len(shell["beta"]) == 12
    single = load_run(small.single_run())
    assert network_answers.network_start(single, Picture(np.ones((32, 32))), (Shell(),)) is None


def test_fit_starts_where_the_network_says(run):
    picture = simulate([RING], (64, 64), 1)
    prediction = run.predict(network_answers.counts_for(run, picture)[None])
    shells = (Shell((2, 3)), Shell((4,), "skewed"))
    start = network_answers.network_start(run, picture, shells)
    inner, outer = start.shells
    radius, sigma, beta = prediction.radius[0], prediction.sigma[0], prediction.beta[0]
    half = picture.counts.sum() / 2
    np.testing.assert_allclose(inner[:3], [32 * radius[0], 32 * sigma[0], half], rtol=1e-6)
    np.testing.assert_allclose(inner[3:], [half * 2 * beta[0, 0], 0], rtol=1e-6)
    np.testing.assert_allclose(outer[[0, 3, 4]], [32 * radius[1], half, half * 2 * beta[1, 1]])
    # the origin is looked for: in the middle of this picture
    np.testing.assert_allclose(start.geometry[:2], 0, atol=0.5)


def test_calibration_gives_energies_and_a_spectrum(tmp_path):
    np.save(tmp_path / "a.npy", simulate([RING], (64, 64), seed=4).counts)
    known = types.SimpleNamespace(
        name="known", shells=[types.SimpleNamespace(radius=ufloat(25.0, 0.01))]
    )
    calibration = calibrate([(known, {0: 0.1})])
    scale = EnergyScale(calibration, ufloat(1.0, 1e-4), "meV")
    output = tmp_path / "answer.json"
    status, pictures = predicted([tmp_path / "a.npy"], output, scale=scale)
    assert status == 0
    (shell,) = pictures[0]["shells"]
    radius, error = shell["R_pixels"], shell["R_pixels_error"]
    assert shell["energy"] == pytest.approx(100 * (radius / 25) ** 2, rel=1e-9)
    relative = 2 * np.hypot(error / radius, 0.01 / 25)
    assert shell["energy_error"] == pytest.approx(shell["energy"] * relative, rel=1e-6)
    assert shell["binding_energy"] == pytest.approx(1000 - shell["energy"])
    assert shell["binding_energy_error"] == pytest.approx(np.hypot(shell["energy_error"], 0.1))
    assert shell["unit"] == "meV"
    energy, _, intensity, _ = np.loadtxt(
        tmp_path / "answer_1_spectrum.csv", delimiter=",", skiprows=2, unpack=True
    )
    assert np.trapezoid(intensity, energy) == pytest.approx(shell["electrons"], rel=2e-3)
    assert energy[np.argmax(intensity)] == pytest.approx(shell["binding_energy"], abs=2)
