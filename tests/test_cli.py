"""The commands as a user runs them: help, a whole small run, and one line for each mistake."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import small
from camera_model import draw_shapes, frame_of, match
from command_line import assert_refused

import sevi_jax

CONFIGS = pathlib.Path(sevi_jax.__file__).parents[1] / "configs"
# quick, at sizes that compile and run in half a minute
SHRUNK = [
    "--config.train.steps=2",
    "--config.train.batch=4",
    "--config.image.size=32",
    "--config.model.width=4",
    "--config.model.ladder=8",
    "--config.eval.pictures=4",
    "--config.eval.batch=4",
    "--config.eval.statistics_batches=2",
    "--config.prior.electrons=(2000, 3000)",
    "--config.synthesis.chunk=4096",
]
RADIUS, BETA = [0.7, 0.4, 0.5], np.full((3, 12), 0.1)
POSITIONS = [np.random.default_rng(i).uniform(-1, 1, (500, 2)) for i in range(3)]


def command(module, *args, cwd):
    """Runs a command in an own process; compiled with few optimisations, which is quicker."""
    env = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    line = [sys.executable, "-m", f"sevi_jax.{module}", *map(str, args)]
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """What the shipped configuration `quick` says and leaves when shrunk to two steps."""
    folder = tmp_path_factory.mktemp("cli")
    result = command("train", f"--config={CONFIGS / 'quick.py'}", *SHRUNK, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "runs/quick", result.stdout


@pytest.fixture
def pair(tmp_path):
    return small.write_pair(tmp_path / "train0.h5", RADIUS[:2], BETA[:2], POSITIONS[0])


@pytest.mark.parametrize(
    "module", ["train", "evaluate", "predict", "invert", "synthesize", "detect", "calibrate"]
)
def test_help_shows_examples_and_flags(module, tmp_path):
    result = command(module, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert f"python -m sevi_jax.{module} --" in result.stdout
    flags = {"train": "config", "synthesize": "kind", "detect": "input", "calibrate": "known"}
    flags["invert"] = "orders"
    flag = flags.get(module, "workdir")
    assert f"  --{flag}\n" in result.stdout
    assert len(result.stdout.partition("\nConfiguration:")[0].splitlines()) < 95
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_one_line():
    stopped = "from sevi_jax import commands\ndef main(): raise KeyboardInterrupt\n"
    line = [sys.executable, "-c", f"{stopped}commands.run(main, 'sevi_jax.detect', None)"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "sevi_jax.detect: interrupted\n")


def test_quick_trains_end_to_end_and_judges_itself(quick_run):
    workdir, said = quick_run
    assert "distance of the angular densities" in said
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [("train", 2), ("eval", 2)]
    names = {path.name for path in workdir.iterdir()}
    expected = {"config.json", "checkpoints", "tensorboard", "held_out.json", "loss.png"}
    assert expected | {"held_out_betas.png"} <= names
    found = json.loads((workdir / "held_out.json").read_text())
    assert found["distance"]["count"] == 4
    config = json.loads((workdir / "config.json").read_text())
    assert config["train"]["steps"] == 2
    assert config["prior"]["electrons"] == [2000, 3000]


def test_evaluate_pairs_the_distributions_of_a_file(quick_run, tmp_path):
    data = small.write_distributions(tmp_path / "train10.h5", RADIUS, BETA, POSITIONS)
    arguments = (f"--workdir={quick_run[0]}", f"--data={data}", "--output=report")
    result = command("evaluate", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "report/report.json").read_text())
    assert [image["distribution_ids"] for image in found["images"]] == [[1, 0], [2, 0], [1, 2]]
    assert [image["electrons"] for image in found["images"]] == [1000] * 3
    assert f"{found['distance']['mean']:.4f}" in result.stdout


def test_predict_answers_for_every_file(quick_run, pair, tmp_path):
    # rows of a picture lie along z
    np.save(tmp_path / "a.npy", small.histogram(POSITIONS[0], 64).T)
    arguments = (f"--workdir={quick_run[0]}", f"--input={pair},a.npy", "--output=answer.json")
    result = command("predict", *arguments, "--shells=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    pictures = json.loads((tmp_path / "answer.json").read_text())["pictures"]
    assert [picture["file"] for picture in pictures] == [str(pair), "a.npy"]
    # the same electrons
    for one, other in zip(pictures[0]["shells"], pictures[1]["shells"], strict=True):
        assert one["R"] == pytest.approx(other["R"], rel=1e-5)
        assert one["beta"] == pytest.approx(other["beta"], rel=1e-4, abs=1e-6)
    assert f"{pictures[0]['shells'][0]['R']:.5f}" in result.stdout


def ring(rng, electrons, radius, width=64, middle=(31.3, 32.8)):
    """Rows and columns of the electrons of a ring without direction, by NumPy, pixels."""
    cosine, r = rng.uniform(-1, 1, electrons), rng.normal(radius, 1.0, electrons)
    across = r * np.sqrt(1 - cosine**2) * np.cos(rng.uniform(0, 2 * np.pi, electrons))
    rows, columns = r * cosine + middle[0], across + middle[1]
    inside = (rows >= 0) & (rows < width) & (columns >= 0) & (columns < width)
    return rows[inside], columns[inside]


def test_predict_reads_events_of_other_cameras(tmp_path):
    """One ring in a gate, another outside; positions in mm under names of their own."""
    rng = np.random.default_rng(3)
    rings = [ring(rng, 30_000, 22), ring(rng, 20_000, 12)]
    rows, columns = (np.concatenate([one[i] for one in rings]) for i in (0, 1))
    times = np.repeat([1.2e-6, 1.5e-6], [len(one[0]) for one in rings])
    with h5py.File(tmp_path / "camera.h5", "w") as file:
        file["hits/down"], file["hits/across"], file["hits/tof"] = 0.1 * rows, 0.1 * columns, times
    arguments = (
        "--shells=1", "--input=camera.h5:/hits", "--output=answer.json", "--figures=none",
        "--gate=tof:1.1e-6,1.3e-6", "--columns=across,down", "--pixel=0.1",
    )  # fmt: skip
    result = command("predict", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "answer.json").read_text())["pictures"][0]
    assert found["electrons"] == len(rings[0][0])
    shell = found["shells"][0]
    assert abs(shell["R_pixels"] - 22) < 5 * shell["R_pixels_error"] < 0.5
    assert abs(shell["beta"][0]) < 5 * shell["beta_error"][0] < 0.1


def test_predict_takes_all_that_is_known_of_a_picture(tmp_path):
    """Off picture, offset, efficiency, mask and noise, each by its flag."""
    rng = np.random.default_rng(4)
    edges = [np.arange(65)] * 2
    drawn = np.histogram2d(*ring(rng, 60_000, 22), edges)[0]
    efficiency = np.linspace(0.5, 1.0, 64)[:, None] * np.ones(64)
    picture = rng.binomial(drawn.astype(int), efficiency) + rng.poisson(2 * efficiency)
    picture[40:50, 5:15] = 0  # a block that the mask leaves out
    np.save(tmp_path / "on.npy", picture + 7)
    np.save(tmp_path / "off.npy", rng.poisson(4 * efficiency) + 7)
    np.save(tmp_path / "efficiency.npy", efficiency)
    mask = np.ones((64, 64), bool)
    mask[40:50, 5:15] = False
    np.save(tmp_path / "mask.npy", mask)
    arguments = (
        "--shells=1", "--input=on.npy", "--output=answer.json", "--figures=none", "--off=off.npy",
        "--off_scale=0.5", "--offset=7", "--efficiency=efficiency.npy", "--mask=mask.npy",
        "--gain=1",
    )  # fmt: skip
    result = command("predict", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "answer.json").read_text())["pictures"][0]
    assert found["converged"]
    assert found["p_value"] > 1e-4
    shell = found["shells"][0]
    assert abs(shell["R_pixels"] - 22) < 5 * shell["R_pixels_error"] < 0.5
    assert abs(shell["electrons"] - 60_000) < 5 * shell["electrons_error"] < 5_000
    assert abs(shell["beta"][0]) < 5 * shell["beta_error"][0] < 0.2


def test_predict_fits_a_picture_without_a_network(tmp_path):
    # beta_2 is 0; the origin is off the middle
    rows, columns = ring(np.random.default_rng(0), 40_000, 22)
    picture = np.histogram2d(rows, columns, [np.arange(65)] * 2)[0]
    np.savetxt(tmp_path / "ring.txt", picture, fmt="%d")
    arguments = ("--shells=1", "--orders=2", "--input=ring.txt", "--output=answer.json")
    result = command("predict", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "answer.json").read_text())["pictures"][0]
    shell = found["shells"][0]
    assert found["converged"]
    assert found["origin_pixels"] == pytest.approx([31.3, 32.8], abs=0.1)
    assert abs(shell["R_pixels"] - 22) < 5 * shell["R_pixels_error"] < 0.5
    assert abs(shell["beta"][0]) < 5 * shell["beta_error"][0] < 0.1
    (said,) = re.findall(r"^  electrons +([\d.]+) ± ", result.stdout, re.MULTILINE)
    assert float(said) == pytest.approx(shell["electrons"], abs=1)
    assert (tmp_path / "answer_1_fit.png").exists()
    page = (tmp_path / "answer.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "ring.txt" in page
    assert "http" not in page  # nothing is fetched from elsewhere


def write_frames(path):
    """Two camera frames of 128 pixels with four electrons each, far apart; a frame may repeat."""
    places = np.array([[30.3, 40.6], [90.2, 35.5], [50.7, 100.1], [110.4, 80.8]])
    shapes = draw_shapes(np.random.default_rng(0), 4)
    images = [frame_of(places, shapes, 128, 64), frame_of(places[::-1] + 3, shapes, 128, 64)]
    with h5py.File(path, "w") as file:
        file["FinalImage"] = small.rows(ImageId=np.array([7, 4], "i4"), Image=np.array(images))
    return [places, places + 3]


def test_detect_finds_the_electrons_of_frames(tmp_path):
    expected = write_frames(tmp_path / "finaltest.h5")
    result = command("detect", "--input=finaltest.h5", "--output=e.h5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "2 frames with 8 electrons" in result.stdout
    with h5py.File(tmp_path / "e.h5") as file:
        rows = file["DetectedElectrons"][:]
    for number, places in zip((7, 4), expected, strict=True):
        here = rows[rows["ImageId"] == number]
        found = (np.stack([here["x"], here["z"]], axis=1) + 1) * 64
        assert len(match(found, places, 0.3)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.h5", "finaltest.h5"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--output=e.h5"], "--input=FILE is needed"),
        (["--input=nowhere.h5", "--output=e.h5"], "nowhere.h5: no such file (--input)"),
        (["--input=a.h5"], "--output=FILE is needed, an .h5"),
        (["--input=a.h5", "--output=e.json"], "e.json: found suffix .json, expected .h5"),
        (["--input=a.h5", "--output=new/e.h5"], "a.h5, table FinalImage: found no such table"),
    ],
)
def test_mistake_in_detect_is_one_line(tmp_path, args, message):
    small.write_pair(tmp_path / "a.h5", RADIUS[:2], BETA[:2], POSITIONS[0])
    assert_refused(tmp_path, message, "detect", *args)


def test_evaluate_fits_the_pictures_too(quick_run, tmp_path):
    arguments = (f"--workdir={quick_run[0]}", "--fit", "--pictures=4", "--output=report")
    result = command("evaluate", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "report/report.json").read_text())
    assert found["fit"]["pictures"] == 4
    assert len(found["images"]) == 4
    for image in found["images"]:
        assert image["fit"]["bound"] > 0
        ratio = image["fit"]["distance"] / image["fit"]["bound"]
        assert image["fit"]["efficiency"] == pytest.approx(ratio)
    assert "likelihood fit of 4 pictures" in result.stdout


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--output=a.json", "--workdir=FOLDER of a run, or --shells=NUMBER for a fit, is needed"),
        ("--orders=2,25", "--orders=2,25: expected numbers from 1 to 24"),
        ("--origin=5", "--origin=5: expected two numbers ROW,COLUMN in pixels"),
        ("--range=9", "--range=9: expected two numbers LOW,HIGH in pixels"),
        ("--range=90,99", "no pixel of the picture is used"),
        ("--mask=none.npy", "none.npy: no such file (--mask)"),
        ("--map", "--map needs the prior of a run"),
        ("--shells=none", "--shells=none: expected a number from 1, or auto"),
        ("--polarisation=up", "--polarisation=up: expected vertical, horizontal or degrees"),
        ("--gain=0", "--gain=0: expected a positive number, or auto"),
        ("--pixel=0", "--pixel=0.0: expected a positive number"),
        ("--columns=x", "--columns=x: expected ACROSS,DOWN"),
        ("--gate=tof", "gate=tof: expected COLUMN:LOW,HIGH, as tof:1.1e-6,1.3e-6"),
        ("--off_scale=2", "--off_scale goes with --off, which is not given"),
        ("--free=all", "expected some of origin, angle, ellipse, harmonics, efficiency"),
        ("--orders=1", "order 1 has no place in an .h5 answer"),
    ],
)
def test_mistake_in_a_fit_is_one_line(tmp_path, flag, message):
    np.save(tmp_path / "a.npy", small.histogram(POSITIONS[0], 64))
    shells = () if flag.startswith(("--output", "--shells")) else ("--shells=1",)
    name = "b.h5" if flag == "--orders=1" else "b.json"
    output = () if flag.startswith("--output") else (f"--output={name}",)
    assert_refused(tmp_path, message, "predict", *shells, *output, "--input=a.npy", flag)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            [f"--config={CONFIGS / 'quick.py'}", "--config.train.stepz=3"],
            "--config.train.stepz: no such key in the configuration",
        ),
        (["--config=nowhere.py"], "--config=nowhere.py: no such file"),
        (
            [f"--config={CONFIGS / 'quick.py'}", "--config.image.size=33"],
            "image.size=33 must be an even number",
        ),
        (["--config=quick", "--config.image.size=33"], "image.size=33 must be an even number"),
        (
            ["--config", "configs/quick.py", "--config.image.size=33"],
            "image.size=33 must be an even number",
        ),
        (["--config=quickly"], "--config=quickly: no such file"),
        ([], "--config=FILE is needed, or one of the program's own: double18, double34, laptop,"),
    ],
    ids=["key", "file", "value", "shipped", "shipped by file", "no shipped one", "none"],
)
def test_mistake_in_the_configuration_is_one_line(tmp_path, args, message):
    assert_refused(tmp_path, message, "train", *args)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator=a:1"], "--coordinator, --num_processes and --process_id belong together"),
        (["--coordinator=a", "--num_processes=2", "--process_id=0"], "=a: expected HOST:PORT"),
        (
            ["--coordinator=a:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 must be below --num_processes=2",
        ),
    ],
    ids=["missing", "port", "number"],
)
def test_mistake_about_the_other_processes_is_one_line(tmp_path, flags, message):
    assert_refused(tmp_path, message, "train", f"--config={CONFIGS / 'quick.py'}", *flags)


def test_cluster_that_is_not_there_is_one_line(tmp_path):
    """In a process of its own: JAX looks for a cluster before it begins."""
    result = command("train", f"--config={CONFIGS / 'quick.py'}", "--distributed", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("sevi_jax.train: --distributed: no cluster found")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_run_whose_folder_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    arguments = (f"--config={CONFIGS / 'quick.py'}", *SHRUNK, "--workdir=file/run")
    assert_refused(tmp_path, "file is a file, expected a folder", "train", *arguments)


def test_folder_without_checkpoint_is_one_line(tmp_path):
    shutil.copy(small.single_run() / "config.json", tmp_path)
    assert_refused(tmp_path, "no checkpoint here", "evaluate", "--workdir=.")


def test_checkpoint_of_another_network_is_one_line(quick_run, tmp_path):
    shutil.copytree(quick_run[0], tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["model"]["width"] = 8
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    message = "not a checkpoint of the network in this run's configuration"
    assert_refused(tmp_path, message, "evaluate", "--workdir=run")


def test_two_shells_for_a_network_of_one_are_one_line(tmp_path, pair):
    message = "train0.h5: table Truth has 2 shells, expected 1"
    arguments = (f"--workdir={small.single_run()}", f"--input={pair.name}", "--output=a.h5")
    assert_refused(tmp_path, message, "predict", *arguments)


def test_unknown_kind_of_answer_is_one_line(tmp_path, pair):
    arguments = (f"--workdir={small.single_run()}", f"--input={pair.name}", "--output=a.csv")
    assert_refused(
        tmp_path, "a.csv: found suffix .csv, expected .json or .h5", "predict", *arguments
    )


def test_damaged_file_among_good_ones_is_one_line(quick_run, tmp_path):
    with h5py.File(tmp_path / "train11.h5", "w") as file:
        file["DistributionParameters"] = small.rows(
            DistributionId=np.arange(2, dtype="i4"), R=[0.4, 0.6], sigma_R=[0.007, 0.007]
        )
    message = "train11.h5, table DistributionParameters, field beta: found only"
    assert_refused(tmp_path, message, "evaluate", f"--workdir={quick_run[0]}", "--data=train11.h5")


def saved_rings(path, *energies):
    """Fits in JSON, of rings with E = 1e-5 R^2 eV; energies are those of each picture, eV."""
    shells = [
        [{"R_pixels": (e / 1e-5) ** 0.5, "R_pixels_error": 0.01} for e in of_picture]
        for of_picture in energies
    ]
    pictures = [{"file": f"{k}.txt", "shells": found} for k, found in enumerate(shells)]
    path.write_text(json.dumps({"pictures": pictures}))


def test_calibrate_writes_a_calibration_and_a_figure(tmp_path):
    saved_rings(tmp_path / "a.json", [0.0123, 0.0456], [0.2])
    arguments = ("--input=a.json", "--known=2:45.6meV,1:0.0123(1)eV;1:0.2eV", "--output=cal.json")
    result = command("calibrate", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "cal.json").read_text())
    assert found["c"] == pytest.approx(1e-5)
    assert found["d"] is None
    assert found["degrees_of_freedom"] == 2
    assert found["p_value"] > 0.99
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "cal.json", "cal.png"}
    assert "c = (1.0000" in result.stdout
    # binding energies, and a second term, which is 0
    known = ",".join(f"{k}:{2.7 - e}eV" for k, e in ((1, 0.0123), (2, 0.0456)))
    arguments = ("--input=a.json", f"--known={known};1:2.5eV", "--photon_energy=2.7")
    result = command("calibrate", *arguments, "--second_term", "--output=b.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["c"] == pytest.approx(1e-5)
    assert abs(found["d"]) < 1e-11
    # the energies of all shells, 2.7 - 0.2 eV among them, in the unit asked for
    arguments = ("--input=a.json", f"--known={known};1:2.5eV", "--photon_energy=2.7", "--unit=meV")
    result = command("calibrate", *arguments, "--output=b.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("  shell ") == 3
    assert re.search(r"1.txt:\n  shell 1: kinetic energy 200.*, binding energy 2500", result.stdout)


def test_mistakes_of_calibrate_are_one_line(tmp_path):
    saved_rings(tmp_path / "a.json", [0.0123, 0.0456])
    (tmp_path / "bad.json").write_text("{")
    known, output = "--known=1:0.0123eV", "--output=cal.json"
    for arguments, message in (
        ((known, output), "--input=FILE is needed"),
        (("--input=a.json", output), "--known=SHELL:ENERGY"),
        (("--input=a.json", known), "--output=FILE.json"),
        (("--input=a.json", known, "--output=a.txt"), "--output=FILE.json"),
        (("--input=bad.json", known, output), "bad.json: expected JSON"),
        (("--input=a.json", "--known=1:0.0123", output), "a number with a unit"),
        (("--input=a.json", "--known=3:1eV", output), "no shell of index 2"),
        (("--input=a.json", f"{known};1:2eV", output), "energies of 2 pictures"),
        (("--input=a.json", known, output, "--second_term"), "at least 2"),
    ):
        assert_refused(tmp_path, message, "calibrate", *arguments)
