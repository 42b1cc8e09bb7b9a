"""What a measurement was taken on; for the scripts that write figures of speed."""

import datetime
import os
import pathlib
import platform

import jax

from sevi_jax import provenance


def describe_machine() -> dict:
    """Processor, cores, load, device and versions."""
    cpu = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
        os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        **provenance.versions(),
    }  # fmt: skip
