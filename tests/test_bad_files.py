"""Malformed files through the real commands: status 2, one line, bounded memory, nothing written.

The readers' own tests, with many more kinds of files, are in data/test_malformed.py.
"""

import gzip
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
import small
from command_line import listing

MEMORY = 1024  # MiB
# A process counts what its parent had in memory as its own peak until it starts its program; so a
# small one, not the tests' own, starts the command and writes down the command's peak.
WATCH = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""
RADIUS, BETA = [0.7, 0.4], np.full((2, 12), 0.1)


class Exploit:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def with_nan(path):
    """Two distributions; the last electron is nowhere."""
    positions = [np.random.default_rng(i).uniform(-1, 1, (500, 2)) for i in range(2)]
    positions[1][-1, 1] = np.nan
    small.write_distributions(path, RADIUS, BETA, positions)


def terabytes(path):
    """A pair of shells with a table of electrons that only claims to be there."""
    small.write_pair(path, RADIUS[:1], BETA[:1], np.zeros((9, 2)))
    with h5py.File(path, "r+") as file:
        kind = file["DetectedElectrons"].dtype
        del file["DetectedElectrons"]
        options = {"chunks": (1000,), "compression": "gzip"}
        file.create_dataset("DetectedElectrons", (10**12,), kind, **options)


def objects(path):
    np.savez(path, counts=np.ones((32, 32)), evil=np.array([[Exploit()]]))


def bomb(path):
    path.write_bytes(gzip.compress(b"0 " * 2**26))


CASES = {
    "nan.h5": (with_nan, "evaluate", "table DetectedElectrons, field z: found nan in row 999"),
    "pair.h5": (terabytes, "predict", "table DetectedElectrons: found 0 of 1000000000 chunks"),
    "objects.npz": (objects, "predict", "objects.npz:evil: found unreadable data (Object arrays"),
    "bomb.txt.gz": (bomb, "predict", "bomb.txt.gz: found over 67108864 bytes of text"),
}


@pytest.mark.parametrize("name", CASES)
def test_status_2_and_one_line(tmp_path, name):
    build, module, message = CASES[name]
    build(tmp_path / name)
    flag = {"evaluate": f"--data={name}", "predict": f"--input={name}"}[module]
    arguments = (f"--workdir={small.single_run()}", flag, "--output=answer.json")
    command = (sys.executable, "-m", f"sevi_jax.{module}")
    before = listing(tmp_path)
    with tempfile.NamedTemporaryFile("r") as peak:
        process = subprocess.run(
            [*(sys.executable, "-c", WATCH, peak.name), *command, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        memory = int(peak.read()) / 1024
    said, complaint = process.stdout, process.stderr
    assert process.returncode == 2, complaint
    assert said == ""
    assert len(complaint.splitlines()) == 1, complaint
    assert complaint.startswith(f"sevi_jax.{module}: {name}")
    assert message in complaint
    assert memory < MEMORY
    assert listing(tmp_path) == before
