"""Reads files that may be malformed, one after the other, and says what happened to each.

    python read_all.py LIST

LIST is a JSON file of [kind, path]. One line of JSON per file on stdout: the error's type and text
(null if the file was read), seconds of this process's CPU time, its peak memory in MiB, and
what it did that no reader may do: unpickle, or open a file for writing.
"""

import json
import os
import pathlib
import resource
import sys
import time

LIMIT = 3 << 30  # address space, so that a test that fails does not take the machine with it
FORBIDDEN = []


def watch(event, args):
    """Notes what no reader may do."""
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    if event == "pickle.find_class" or (event == "open" and (args[2] or 0) & writes):
        FORBIDDEN.append(f"{event} {args}")


def peak_memory(restart=False):
    """MiB that this process had at most, since the last restart where the system can tell."""
    try:
        if restart:
            pathlib.Path("/proc/self/clear_refs").write_text("5")
        status = pathlib.Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(kind, path):
    """Reads the file by the readers of its kind, as the commands do."""
    if kind == "images":
        load_all(path)
    elif kind == "answers":
        read_fits(path)
    else:
        if file_kind(path) in ("distributions", "pair"):
            read_truth(path)
        for _ in count_electrons(path, 16):
            pass


if __name__ == "__main__":
    from sevi_jax.data.events import count_electrons, file_kind, read_truth
    from sevi_jax.data.load import load_all
    from sevi_jax.results.energies import read_fits

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    sys.addaudithook(watch)
    for kind, path in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        error = text = None
        peak_memory(restart=True)
        FORBIDDEN.clear()
        start = time.process_time()
        try:
            read(kind, pathlib.Path(path))
        except Exception as caught:
            error, text = type(caught).__name__, str(caught)
        result = {
            "path": path,
            "error": error,
            "text": text,
            "seconds": time.process_time() - start,
            "peak": peak_memory(),
            "forbidden": FORBIDDEN[:],
        }
        FORBIDDEN.clear()
        print(json.dumps(result), flush=True)
