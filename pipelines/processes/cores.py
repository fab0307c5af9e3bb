"""How many cores there are for this process."""

import os


def cores() -> int:
    """Those that it may run on, where the system says which: a container or a batch job may have a few of many."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1
