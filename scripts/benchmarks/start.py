"""Time from the command to the first training step, without and with compiled programs at hand.

  .venv/bin/python scripts/benchmarks/start.py
  .venv/bin/python scripts/benchmarks/start.py --config=configs/laptop.py

Starts `python -m sevi_jax.train` twice in an empty folder, with an empty compilation cache and then
with what the first start put there, and waits for the line of step 1 in metrics.jsonl. Use a
machine that does nothing else.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time


def first_step(config: str, folder: pathlib.Path, name: str) -> tuple[float, float]:
    """Seconds until step 1, and seconds of processor time until then."""
    workdir = folder / name
    line = [sys.executable, "-m", "sevi_jax.train", f"--config={config}", f"--workdir={workdir}"]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    metrics = workdir / "metrics.jsonl"
    start = time.perf_counter()
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(
            [*line, "--config.train.log_every=1"], env=env, stdout=log, stderr=log
        )
    while not (metrics.exists() and '"step": 1,' in metrics.read_text()):
        if process.poll() is not None:
            sys.exit(f"benchmark_start.py: {(folder / f'{name}.log').read_text()[-500:]}")
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(signal.SIGTERM)
    process.wait()
    return seconds, cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/quick.py")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            seconds, cpu = first_step(options.config, pathlib.Path(folder), name)
            print(f"{name}: first step after {seconds:.1f} s ({cpu:.1f} s of processor time)")


if __name__ == "__main__":
    main()
