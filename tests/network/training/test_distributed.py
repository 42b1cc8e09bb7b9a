"""Two processes with two devices each train as one with four; what one of them alone knows, all do.

One scenario for all, since every process compiles the step anew: two processes train to step 5,
where one of them is killed. Started again, one gets SIGTERM. One device trains to the end.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import distributed_run
import numpy as np
import pytest

from sevi_jax.locks import FILE_NAME, locked
from sevi_jax.network.training.checkpoint import FOLDER
from sevi_jax.network.training.metrics import read_metrics

HERE = pathlib.Path(__file__).parent
# The batch's means are summed in another order, and eight steps of Adam carry the rounding on.
ROUNDING = {"rtol": 1e-3, "atol": 1e-5}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Group:
    """Processes that train in a folder together.

    Args:
        workdir: the folder.
        held: another, in which this process trains.
        number: of processes.
        devices: of each.
        event: signal and step, for the last process.
    """

    def __init__(self, workdir, held, number, devices, *event):
        coordinator = f"127.0.0.1:{free_port()}"
        flags = f"--xla_force_host_platform_device_count={devices}"
        env = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}:{HERE.parents[2]}"}
        env |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        name = "_".join(map(str, (workdir.name, number, devices, *event)))
        self._files = [workdir.with_name(f"{name}_{i}.txt") for i in range(number)]
        self._processes = []
        for index, path in enumerate(self._files):
            line = [sys.executable, distributed_run.__file__, coordinator, number, index]
            line += [workdir, held, *(event if index == number - 1 else ())]
            with path.open("w") as file:
                self._processes.append(
                    subprocess.Popen(
                        list(map(str, line)), env=env, stdout=file, stderr=subprocess.STDOUT
                    )
                )

    def wait(self, index):
        """The exit status of a process."""
        return self._processes[index].wait(timeout=300)

    def end(self):
        """Waits for all, which must succeed; returns what each said."""
        status = [self.wait(i) for i in range(len(self._processes))]
        said = [self.said(i) for i in range(len(self._processes))]
        assert not any(status), said
        return said

    def kill(self, index):
        self._processes[index].kill()
        self.wait(index)

    def said(self, index):
        """What a process said on both channels, but for the bar and what libraries say.

        Gloo's threads write into each other's lines, which leaves empty ones.
        """
        lines = self._files[index].read_text().splitlines()
        others = ("[Gloo]", "WARNING:absl", "%|")
        return [line for line in lines if line and not any(x in line for x in others)]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in self._processes:
            process.kill()


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    """The run's folder after it was killed and stopped, and what both pairs said."""
    folder = tmp_path_factory.mktemp("distributed")
    workdir, held = folder / "run", folder / "held"
    with locked(held, held, "trains here already"):
        with Group(workdir, held, 2, 2, "SIGKILL", 6) as pair:
            assert pair.wait(1) == -signal.SIGKILL, pair.said(1)
            pair.kill(0)  # as a cluster does with the rest
            said = [[pair.said(0), pair.said(1)]]
        left = {path.name for path in (workdir / FOLDER).iterdir() if path.name.isdigit()}
        assert left == {"4"}
        with Group(workdir, held, 2, 2, "SIGTERM", 6) as pair:
            said.append(pair.end())
    return workdir, said


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Folder of the same run by one process with four devices."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    with Group(workdir, workdir, 1, 4) as one:
        assert one.end()[0][-1] == "finished"
    return workdir


def assert_same_rows(found, expected):
    """The same numbers but for rounding; what is counted is the same."""
    assert [(x["kind"], x["step"]) for x in found] == [(x["kind"], x["step"]) for x in expected]
    for row, other in zip(found, expected, strict=True):
        assert row.get("acceptance") == other.get("acceptance")
        for name in row.keys() - {"kind", "steps_per_second", "pictures_per_second"}:
            np.testing.assert_allclose(row[name], other[name], **ROUNDING, err_msg=name)


def test_mistakes_are_told_once_and_end_all_processes(scenario):
    for pair in scenario[1]:
        first, second = ([x for x in lines if x.startswith("refused:")] for lines in pair)
        assert "train.batch=7 must be a multiple of the 4 devices" in first[0]
        assert re.search(r"held: process \d+ on .* trains here already", first[1])
        assert second == ["refused: ", "refused: "]


def test_only_the_first_process_speaks(scenario):
    (_, killed), (first, second) = scenario[1]
    assert killed == ["refused: ", "refused: "]
    assert second == ["refused: ", "refused: ", "stopped"]
    assert [x for x in first if "step" in x] == [
        f"{scenario[0]}: training on 4 x cpu in 2 processes, 4 pictures a step, 1 on each device; "
        "going on from step 4",
        "SIGTERM: saved at step 7; start again to go on",
    ]


def test_run_of_two_processes_has_the_pictures_and_losses_of_one(scenario, reference):
    """Killed after step 5, gone on from step 4, stopped by a signal to the other process."""
    workdir = scenario[0]
    pictures = [np.load(folder / "counts.npy") for folder in (workdir, reference)]
    np.testing.assert_array_equal(*pictures)
    rows = [row for row in read_metrics(reference) if row["step"] <= 7]
    assert_same_rows(read_metrics(workdir), rows)
    assert not (workdir / FILE_NAME).exists()


def test_one_device_goes_on_where_two_processes_stopped(scenario, reference, tmp_path):
    workdir = shutil.copytree(scenario[0], tmp_path / "run")
    with Group(workdir, workdir, 1, 1) as one:
        said = one.end()[0]
    begun, finished = (x for x in said if x)
    assert begun.startswith(f"{workdir}: training on 1 x cpu in 1 process, 4 pictures a step")
    assert begun.endswith("; going on from step 7")
    assert finished == "finished"
    assert_same_rows(read_metrics(workdir), read_metrics(reference))


def test_processes_that_do_not_come_are_one_line_and_status_2():
    script = (
        "from sevi_jax.network.training import processes; processes.join({!r}, 2, {}, seconds=1)"
    )
    coordinator = f"127.0.0.1:{free_port()}"
    line = [sys.executable, "-c", script.format(coordinator, 1)]
    found = subprocess.run(line, capture_output=True, text=True, timeout=60)
    expected = f"--coordinator={coordinator}: not all processes came together in 1 s"
    assert found.returncode == 2
    assert found.stderr.splitlines() == [f"sevi_jax.train: {expected}"]
