"""How many cores there are for this process; knows nothing of what runs on them."""

import os


def cores() -> int:
    """Cores that this process may use: those of its affinity, at most ``$NPROC`` of them.

    XLA reads the same variable for the number of its threads.
    """
    may_use = getattr(os, "sched_getaffinity", None)
    number = len(may_use(0)) if may_use else os.cpu_count() or 1
    return max(1, min(number, int(os.environ.get("NPROC") or number)))
