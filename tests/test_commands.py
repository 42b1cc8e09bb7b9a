"""What every command promises: nothing lost, one line for a mistake, no flag without effect."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import small
from command_line import assert_refused, command

import sevi_jax
from sevi_jax import commands
from sevi_jax.network.training import loop

ROOT = pathlib.Path(sevi_jax.__file__).parents[1]
QUICK = f"--config={ROOT / 'configs/quick.py'}"
POSITIONS = np.random.default_rng(0).uniform(-1, 1, (500, 2))


@pytest.fixture
def folder(tmp_path):
    """One of every kind of input, and the folders of two runs."""
    beta = np.full((3, 12), 0.1)
    small.write_pair(tmp_path / "train0.h5", [0.4, 0.7], beta[:2], POSITIONS)
    small.write_distributions(tmp_path / "train10.h5", [0.7, 0.4, 0.5], beta, [POSITIONS] * 3)
    frames = np.zeros((2, 128, 128), np.uint8)
    with h5py.File(tmp_path / "finaltest.h5", "w") as file:
        file["FinalImage"] = small.rows(ImageId=np.arange(2, dtype="i4"), Image=frames)
    np.save(tmp_path / "a.npy", small.histogram(POSITIONS, 64))
    (tmp_path / "two").symlink_to(small.trained_run())
    (tmp_path / "one").symlink_to(small.single_run())
    return tmp_path


# Files.


def data_of(folder, name, overwrite):
    """The file under another name, as a result that may be replaced."""
    (folder / "same.h5").symlink_to(name)
    return ["--output=same.h5", *(["--overwrite"] if overwrite else [])]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "args"),
    [
        ("predict", "train0.h5", ["--shells=2", "--input=train0.h5"]),
        ("predict", "train0.h5", ["--workdir=two", "--input=a.npy,train0.h5"]),
        ("predict", "train0.h5", ["--shells=2", "--input=train0.h5:/DetectedElectrons"]),
        ("predict", "finaltest.h5", ["--shells=2", "--input=finaltest.h5"]),
        ("detect", "finaltest.h5", ["--input=finaltest.h5"]),
    ],
)
def test_input_is_not_written_over(folder, module, name, args, overwrite):
    link = data_of(folder, name, overwrite)
    for output in ([f"--output={name}", *link[1:]], [f"--output=./{name}", *link[1:]], link):
        assert_refused(folder, "which the command reads", module, *args, *output)


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("predict", ["--shells=2", "--input=train0.h5"]),
        ("predict", ["--workdir=two", "--input=a.npy"]),
        ("detect", ["--input=finaltest.h5"]),
        ("synthesize", [QUICK, "--kind=images"]),
    ],
)
def test_foreign_file_is_not_written_over(folder, module, args):
    message = "train10.h5: exists and is no earlier result of this program; another name, or --over"
    assert_refused(folder, message, module, *args, "--output=train10.h5")


def test_files_beside_the_answer_are_not_written_over_either(folder):
    fit = ("predict", "--shells=1", "--input=a.npy", "--output=answer.json")
    for name in ("answer.html", "answer_1_fit.png"):
        path = folder / name
        path.write_text("mine")
        assert_refused(folder, f"{name}: exists and is no earlier result", *fit)
        path.unlink()
    (folder / "b_electrons.h5").symlink_to("train0.h5")
    frames = ("predict", "--shells=2", "--input=finaltest.h5", "--output=b.json")
    assert_refused(folder, "b_electrons.h5: exists and is no earlier result", *frames)
    (folder / "answer_2_fit.npy").symlink_to("a.npy")


def test_report_writes_over_no_foreign_file_and_no_part_of_the_run(folder):
    (folder / "report").mkdir()
    (folder / "report/report_betas.png").write_text("mine")
    line = ("evaluate", "--workdir=two", "--data=train10.h5")
    assert_refused(folder, "report_betas.png: exists and is no earlier", *line, "--output=report")
    message = "in two/checkpoints, which the command reads"
    assert_refused(folder, message, *line, "--output=two/checkpoints/a", "--overwrite")
    answer = ("predict", "--workdir=two", "--input=a.npy", "--output=two/config.json")
    assert_refused(folder, "config.json: this is the same file as", *answer, "--overwrite")


def test_training_writes_over_no_foreign_file(folder):
    for name in ("metrics.jsonl", "loss.png", "held_out.json", "config.json"):
        run = folder / f"of_{name}"
        run.mkdir()
        (run / name).write_text("mine")
        assert_refused(folder, f"of_{name}", "train", QUICK, f"--workdir={run.name}")


def test_own_answer_is_replaced_and_the_network_named(folder):
    for name in ("answer.json", "answer.h5"):
        line = ("predict", "--workdir=two", "--input=a.npy,train0.h5", f"--output={name}")
        for _ in range(2):
            said = command(*line, cwd=folder)
            assert said.status == 0, said.err
    found = json.loads((folder / "answer.json").read_text())
    step = int(next(x.name for x in (folder / "two/checkpoints").iterdir() if x.name.isdigit()))
    assert found["run"]["workdir"] == "two"
    assert found["run"]["step"] in {step, 2, 4, 6}
    assert found["run"]["seed"] == 0
    assert found["versions"]["sevi_jax"] == sevi_jax.__version__
    assert "jax" in found["versions"]
    with h5py.File(folder / "answer.h5") as file:
        attributes = dict(file["Answer"].attrs)
    assert json.loads(attributes["run"]) == found["run"]
    assert json.loads(attributes["versions"]) == found["versions"]


def test_frames_of_the_same_name_keep_their_electrons_apart(tmp_path):
    from sevi_jax.results.predicting import electrons_of

    frames = np.zeros((1, 128, 128), np.uint8)
    inputs = [tmp_path / "a/run.h5", tmp_path / "b/run.h5"]
    for path in inputs:
        path.parent.mkdir()
        with h5py.File(path, "w") as file:
            file["FinalImage"] = small.rows(ImageId=np.zeros(1, "i4"), Image=frames)
    found = dict(electrons_of(inputs, tmp_path / "answer.json"))
    assert list(found) == inputs
    assert len(set(found.values())) == 2


def test_folder_of_somebody_elses_beside_the_output_is_not_deleted(folder):
    (folder / "e.h5.partial").mkdir()
    (folder / "e.h5.partial/notes.txt").write_text("mine")
    said = command("detect", "--input=train0.h5", "--output=e.h5", cwd=folder)
    assert said.status == 2
    said = command("detect", "--input=finaltest.h5", "--output=e.h5", cwd=folder)
    assert (folder / "e.h5.partial/notes.txt").read_text() == "mine"


# Flags.


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("predict", ["--orders=2"], "--orders goes with --fit, which is not given"),
        ("predict", ["--background=none"], "--background goes with --fit"),
        ("predict", ["--origin=3,4"], "--origin goes with --fit"),
        ("predict", ["--range=0,4"], "--range goes with --fit"),
        ("predict", ["--mask=a.npy"], "--mask goes with --fit"),
        ("predict", ["--noise=normal"], "--noise goes with --fit"),
        ("predict", ["--off=a.npy"], "--off goes with --fit"),
        ("predict", ["--efficiency=a.npy"], "--efficiency goes with --fit"),
        ("predict", ["--fit", "--off_scale=2"], "--off_scale goes with --off, which is not given"),
        ("predict", ["--blur=0.01"], "--blur goes with --fit"),
        ("predict", ["--positive"], "--positive goes with --fit"),
        ("predict", ["--calibration=cal.json"], "--calibration goes with --fit"),
        ("predict", ["--unit=meV"], "--unit goes with --calibration, which is not given"),
        ("predict", ["--map"], "--map goes with --fit"),
        ("predict", ["--fit", "--orders="], "--orders=: a value is expected"),
        ("predict", ["--fit", "--orders=2;"], "--orders=2;: expected numbers from 1 to 24"),
        ("predict", ["--fit", "--orders=,"], "--orders=,: expected numbers from 1 to 24"),
        ("predict", ["--mask="], "--mask=: a value is expected"),
        ("predict", ["--workdir=one"], "--workdir is given 2 times"),
        ("predict", ["--input=train0.h5"], "--input is given 2 times; several files are one flag"),
        (
            "evaluate",
            ["--data=train10.h5", "--exposure=0.1"],
            "--exposure is for held-out pictures",
        ),
        ("evaluate", ["--data=train10.h5", "--pictures=3"], "--pictures is for held-out pictures"),
        ("evaluate", ["--pairs=3"], "--pairs chooses pairs of distributions in the files"),
        ("evaluate", ["--seed=3"], "--seed chooses pairs"),
        ("evaluate", ["--map"], "--map goes with --fit"),
        ("evaluate", ["--start=picture"], "--start goes with --fit"),
        ("evaluate", ["--positive"], "--positive goes with --fit"),
        ("evaluate", ["--exposure=nan"], "--exposure=nan: a finite number is expected"),
        ("predict", ["--fit", "--blur=nan"], "--blur=nan: a finite number is expected"),
        ("predict", ["--fit", "--range=nan,3"], "--range=nan,3: expected two numbers"),
        ("evaluate", ["--output="], "--output=: a value is expected"),
        ("evaluate", ["--data="], "--data=: a value is expected"),
        ("evaluate", ["--data=train10.h5,"], "--data=train10.h5,: a name is empty"),
    ],
    ids=lambda x: "_".join(x) if isinstance(x, list) else None,
)
def test_flag_without_effect_or_value_is_refused(folder, module, args, message):
    more = ["--input=a.npy", "--output=answer.json"] if module == "predict" else []
    assert_refused(folder, message, module, "--workdir=two", *more, *args)


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--polarisation=90", "train0.h5"),
        ("--polarisation=90", "finaltest.h5"),
        ("--offset=3", "train0.h5"),
        ("--gate=x:0,1", "train0.h5"),
        ("--pixel=0.1", "train0.h5"),
        ("--columns=x,z", "finaltest.h5"),
    ],
)
def test_flag_for_plain_pictures_is_refused_for_events(folder, flag, name):
    message = f"{flag.partition('=')[0]} is for plain pictures, but {name} holds"
    args = ("--shells=2", f"--input=a.npy,{name}", "--output=answer.json", flag)
    assert_refused(folder, message, "predict", *args)


def test_pairs_are_refused_for_a_network_of_one_shell(folder):
    line = ("evaluate", "--workdir=one", "--data=train10.h5", "--pairs=3")
    assert_refused(folder, "--pairs is for networks of two shells", *line)


def test_pairs_are_refused_where_there_are_none(folder):
    line = ("evaluate", "--workdir=two", "--data=train0.h5", "--seed=3")
    assert_refused(folder, "--seed is for files of many distributions, which none is", *line)


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("synthesize", ["--config.train.steps=3"], "--config.train.steps has no effect here"),
        ("synthesize", ["--config.image.size=64"], "--config.image.size has no effect here"),
        ("train", ["--config.model.ladder=32"], "--config.model.ladder has no effect here"),
        ("train", ["--config.model.exposures=(0.1,)"], "--config.model.exposures has no effect"),
        ("train", ["--distributed", "--coordinator=a:1", "--num_processes=2", "--process_id=0"],
         "--distributed asks the cluster who the others are"),
    ],
)  # fmt: skip
def test_key_without_effect_is_refused(tmp_path, module, args, message):
    more = ["--kind=distributions", "--output=a.h5"] if module == "synthesize" else []
    config = f"--config={ROOT / 'configs/double18.py'}"
    assert_refused(tmp_path, message, module, config, *more, *args)


# Configurations.

FILES = {
    "nothing.py": ("def get_config():\n    pass\n", "get_config() returned NoneType, expected"),
    "own.py": (
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'train': {'steps': 3}})\n",
        "own.py: found no key seed, expected what sevi_jax.config.default_config() makes",
    ),
    "part.py": (
        "from sevi_jax.config import default_config\n"
        "def get_config():\n    return default_config().train\n",
        "part.py: found no key seed",
    ),
    "plain.py": ("def get_config():\n    return {'seed': 3}\n", "get_config() returned dict"),
    "number.py": ("def get_config():\n    return 3\n", "get_config() returned int, expected"),
    "none.py": ("x = 3\n", "has no attribute 'get_config'"),
    "wrong.py": ("def get_config(:\n", "invalid syntax"),
    "fails.py": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "foreign.json": ('{"steps": 3}', "not a configuration of this program"),
    "cut.json": ('{"seed": ', "not a configuration of this program"),
    "binary.json": ("\0\1", "not a configuration of this program"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_configuration_is_one_line(tmp_path, name):
    text, message = FILES[name]
    (tmp_path / name).write_text(text)
    assert_refused(tmp_path, message, "train", f"--config={name}")
    assert_refused(tmp_path, "config", "train", f"--config={name}", "--config.train.steps=5")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("seed=99999999999999999999", "seed=99999999999999999999 must be a whole number from 0 to"),
        ("seed=-1", "seed=-1 must be a whole number from 0 to 2^32 - 1"),
        ("seed=x", "invalid literal"),
        ("seed=3 --config.seed=4", "--config.seed is given 2 times"),
        ("train.learning_rate=inf", "learning_rate=inf: a finite number is expected"),
        ("prior.beta=((10,11,10,1),)", "densities, nowhere negative, at least once in 1000"),
        ("prior.beta=3", "prior.beta"),
        ("prior.radius=abc", "prior.radius"),
        ("train=5", "train"),
        ("model.stem=", "--config.model.stem=: a value is expected"),
    ],
)
def test_value_that_cannot_be_is_one_line(tmp_path, value, message):
    assert_refused(tmp_path, message, "train", QUICK, *f"--config.{value}".split())


@pytest.fixture
def trained_with(monkeypatch):
    """What `train` would do, and the status of what it does instead."""
    calls = []

    def use(result):
        def train(config, workdir, init_from):
            calls.append((config, workdir, init_from))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(loop, "train", train)
        return calls

    return use


@pytest.mark.parametrize("form", ["--config={}", "-config {}", "--config {}"])
def test_configuration_of_a_run_is_a_configuration(tmp_path, trained_with, form):
    calls = trained_with(False)
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    small_config = small.small_config(seed=7)
    loop.save_config(run, small_config)
    args = form.format("runs/mine/config.json").split()
    said = command("train", *args, "--config.train.steps=5", cwd=tmp_path)
    assert (said.status, said.err) == (commands.STOPPED, "")
    ((config, workdir, init_from),) = calls
    assert (workdir, init_from) == (pathlib.Path("runs/mine"), None)
    assert config.to_json() == small.small_config(seed=7, train__steps=5).to_json()


def test_configuration_of_a_run_is_not_written_over(folder):
    (folder / "config.json.h5").symlink_to("two/config.json")
    line = ("synthesize", "--config=two/config.json", "--kind=images", "--output=config.json.h5")
    assert_refused(folder, "which the command reads", *line)


# Status and words of a training that does not get to its end.


def test_stopped_training_has_a_status_of_its_own(tmp_path, trained_with):
    trained_with(False)
    said = command("train", QUICK, cwd=tmp_path)
    assert (said.status, said.out, said.err) == (75, "", "")


def test_after_broken_numbers_the_line_says_what_helps(folder, trained_with):
    trained_with(loop.Diverged("step 5: loss=nan"))
    said = command("train", QUICK, "--workdir=new", cwd=folder)
    assert said.status == 1
    assert said.err == (
        "sevi_jax.train: stopped at step 5: loss=nan; there is no checkpoint to go on from, and "
        "the same command comes to the same numbers: begin again with --config.train.learning_rate "
        "below 0.002 or --config.train.clip_norm below 1\n"
    )
    said = command("train", QUICK, "--workdir=two", cwd=folder)
    assert "goes on from the checkpoint of step 6 to the same numbers" in said.err
    assert "give it --config.train.learning_rate below 0.002" in said.err


@pytest.fixture
def fake_environment(tmp_path):
    """A virtual environment, new enough for setup.sh, whose Python notes what it is asked."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin/python"
    python.write_text(
        "#!/usr/bin/env bash\n[[ $1 != -c ]] || exit 0\n"
        f'echo "$@" >> {tmp_path}/asked\nexit "${{STATUS:-0}}"\n'
    )
    python.chmod(0o755)
    (venv / "sevi_jax.stamp").touch()
    return venv


def script(name, venv, *args, **environment):
    line = ["bash", str(ROOT / "scripts" / name), *args]
    env = os.environ | {"VENV": str(venv)} | environment
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, (venv.parent / "asked").read_text().splitlines()


def test_script_of_the_main_job_stops_where_the_training_was_stopped(fake_environment):
    status, asked = script("train.sh", fake_environment, STATUS="75")
    assert status == 75
    assert len(asked) == 1
    assert "sevi_jax.train" in asked[0]


@pytest.mark.parametrize(("status", "requeued"), [("0", False), ("75", True), ("2", False)])
def test_script_for_slurm_requeues_a_stopped_job_and_nothing_else(
    fake_environment, tmp_path, status, requeued
):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text('#!/usr/bin/env bash\necho srun "$1" >> '
                                f'{tmp_path}/asked\nshift 2\n"$@"\n')  # fmt: skip
    (tools / "scontrol").write_text(
        f'#!/usr/bin/env bash\necho scontrol "$@" >> {tmp_path}/asked\n'
    )
    for path in tools.iterdir():
        path.chmod(0o755)
    found, asked = script(
        "slurm.sh", fake_environment, "configs/quick.py", "--workdir=x", STATUS=status,
        PATH=f"{tools}:{os.environ['PATH']}", SLURM_JOB_ID="42", SLURM_CPUS_PER_TASK="8",
    )  # fmt: skip
    assert found == int(status)
    assert asked[0] == "srun --cpus-per-task=8"
    assert asked[1] == "-m sevi_jax.train --distributed --config=configs/quick.py --workdir=x"
    assert asked[2:] == (["scontrol requeue 42"] if requeued else [])


def test_checks_of_the_source_take_the_environment_that_is_named(fake_environment, tmp_path):
    """The type checker must not look for another one."""
    status, asked = script("check.sh", fake_environment)
    assert status == 0
    checker = next(line for line in asked if "basedpyright" in line)
    assert f"--pythonpath {fake_environment}/bin/python" in checker
    settings = (ROOT / "pyproject.toml").read_text()
    assert "venvPath" not in settings


# Machines.


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_PLATFORMS", "cuda", "sevi_jax.synthesize: JAX_PLATFORMS=cuda: JAX does not start"),
        ("JAX_PLATFORMS", "nonsense", "JAX_PLATFORMS=nonsense: JAX does not start here"),
        ("JAX_ENABLE_X64", "maybe", "JAX does not start here (invalid truth value 'maybe'"),
    ],
)
def test_device_that_is_not_there_is_one_line(tmp_path, name, value, message):
    line = [sys.executable, "-m", "sevi_jax.synthesize", QUICK, "--kind=images", "--output=a.h5"]
    env = os.environ | {name: value}
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 7 GiB"), RuntimeError("RESOURCE_EXHAUSTED: out of memory")],
)
def test_too_little_memory_is_one_line(tmp_path, trained_with, error):
    trained_with(error)
    assert_refused(tmp_path, "out of memory (", "train", QUICK)


def test_fault_of_the_program_is_a_traceback(tmp_path, trained_with):
    trained_with(ZeroDivisionError("a fault"))
    with pytest.raises(ZeroDivisionError):
        command("train", QUICK, cwd=tmp_path)


def test_help_that_nobody_reads_to_its_end_is_one_line(tmp_path):
    line = [sys.executable, "-m", "sevi_jax.train", "--help"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
    process.stdout.close()
    assert process.stderr.read() == "sevi_jax.train: Broken pipe\n"
    process.stderr.close()
    assert process.wait() == 2


def test_help_of_train_lists_every_key(tmp_path):
    said = command("train", "--help", cwd=tmp_path)
    assert (
        "--config.train.batch=8\n      pictures of one step, over all devices; a whole" in said.out
    )
    assert "exit status 75" in said.out


def test_signal_number_is_no_status_of_a_stop():
    """What a shell gives to killed processes, and this program to mistakes, is something else."""
    others = {0, 1, 2, 130} | {128 + number for number in signal.valid_signals()}
    assert commands.STOPPED not in others


def test_help_of_synthesize_has_the_defaults_that_are_used(tmp_path):
    from sevi_jax import simulation

    said = command("synthesize", "--help", cwd=tmp_path).out
    numbers = ", ".join(f"{number} {kind}" for kind, number in simulation.NUMBERS.items())
    for value in (numbers, simulation.DETECTED, simulation.PER_FRAME, simulation.FRAME_SIZE):
        assert f"(default: {value})" in said
