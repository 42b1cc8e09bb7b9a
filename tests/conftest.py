"""Settings of the whole suite: four fake CPU devices, strict dtype promotion, keys by type."""

import os

# Before JAX is imported: the sharding tests need more than one device.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # tests compile for themselves

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_legacy_prng_key", "error")
