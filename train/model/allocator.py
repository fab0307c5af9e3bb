"""What the C library does with the memory that a step frees."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> bool:
    """Let glibc keep what a step frees for the next one, from now on and in this process alone; whether it does.

    By itself it maps every tensor of more than 32 MiB anew, logits above all, and gives the top of the heap back: at
    each step the kernel clears those pages again while they are first written. No number changes, and the process holds
    what it held at its peak. Other C libraries are left as they are, and so is what a user has set.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or "malloc" in tunables or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return libc.mallopt(M_MMAP_MAX, 0) == 1 and libc.mallopt(M_TRIM_THRESHOLD, -1) == 1
