"""glibc's malloc in a process of its own: how many heaps, what is kept, and what is given back."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")

HEAPS = """
import ctypes, sys, threading
from sevi_jax import memory
if sys.argv[1] == "yes":
    memory.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes = ctypes.c_char_p, ctypes.c_char_p
libc.malloc_info.argtypes = ctypes.c_int, ctypes.c_void_p
libc.fclose.argtypes = (ctypes.c_void_p,)
together = threading.Barrier(9)
def work():
    libc.malloc(1000)
    together.wait()
for _ in range(8):
    threading.Thread(target=work).start()
together.wait()
file = libc.fopen(b"heaps.xml", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def test_threads_share_one_heap_unless_the_environment_says_otherwise(tmp_path):
    found = []
    for shared, limit in (("no", None), ("yes", None), ("yes", "4")):
        env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        env |= {} if limit is None else {"MALLOC_ARENA_MAX": limit}
        subprocess.run([sys.executable, "-c", HEAPS, shared], cwd=tmp_path, env=env, check=True)
        found.append((tmp_path / "heaps.xml").read_text().count("<heap nr="))
    assert found[0] > 4
    assert found[1:] == [1, 4]


def printed(script, *arguments):
    """The numbers that a script prints where the environment says nothing of malloc."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    line = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(line, env=env, check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()]


FREE_BELOW = """
import ctypes
from sevi_jax import memory
memory.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
start = resident_mib()
blocks = [libc.malloc(50_000) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 50_000)
for block in blocks[:-1]:  # the last stays in use above the others
    libc.free(block)
freed = resident_mib()
memory.give_back()
print(freed - start, resident_mib() - start)
"""


def test_free_memory_below_a_block_in_use_is_given_back():
    freed, given_back = printed(FREE_BELOW)
    assert freed > 80
    assert given_back < 15


LARGE = """
import ctypes, resource, sys
from sevi_jax import memory
if sys.argv[1] == "yes":
    memory.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
for _ in range(10):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(100_000_000)
    ctypes.memset(block, 1, 100_000_000)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def test_large_blocks_are_asked_of_the_system_once():
    faults = [number for kept in ("no", "yes") for number in printed(LARGE, kept)]
    assert faults[0] > 20  # as pages of 4 KiB or 2 MiB
    assert faults[1] < 5
