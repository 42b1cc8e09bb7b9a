"""Settings of the whole suite: four fake CPU devices, strict dtype promotion, keys by type."""

import os
import shutil
import tempfile

# Before JAX is imported: the sharding tests need more than one device.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
# A program is compiled once for all workers and for the commands that tests start. JAX locks the
# folder, as it must where several processes write, if its size is limited.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not IS_WORKER:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="sevi_jax_programs_")
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jax  # noqa: E402  # after its variables

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_legacy_prng_key", "error")


def pytest_unconfigure():
    """Deletes what was compiled, at the very end."""
    if not IS_WORKER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
