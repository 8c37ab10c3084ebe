"""What becomes of freed memory: kept for the next feature maps, or given back. Entry points choose, no import does."""

import contextlib
import ctypes
import os
import sys

_KEPT_BYTES = 2**30
_MALLOPT = {  # environment variable: number in glibc's malloc.h, our value
    "MALLOC_TRIM_THRESHOLD_": (-1, _KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": (-3, _KEPT_BYTES),
    "MALLOC_ARENA_MAX": (-8, 1),  # an arena of a thread's own is cut into heaps of 64 MB, given back as they empty
}


def keep_memory() -> None:
    """Have freed memory kept for the next feature maps, which come and go by the 10 MB, in every thread.

    By itself glibc gives it back at once, and Linux maps and zeroes it anew: a product of 16 MB then takes 20 times as
    long. And have it in huge pages instead of pages of 4 KiB; torch looks at that once, before the first tensor, so
    call this before any tensor is made. What the environment says of any of it stays. Threads that were there before
    keep their arenas.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from other C libraries
        for variable, (parameter, value) in _MALLOPT.items():
            if mallopt is not None and variable not in os.environ:
                mallopt(parameter, value)


def give_back_memory() -> None:
    """Have glibc return every freed block of 8 MiB or more to the system at once, for work whose peak counts.

    Left alone, it raises that limit to 32 MiB as it goes, and what a 1024-px render frees piles up in its heap: some
    100 MB, another number in every process. Other C libraries have no such switch.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_MALLOPT["MALLOC_MMAP_THRESHOLD_"][0], 8 << 20)
        set_option(_MALLOPT["MALLOC_TRIM_THRESHOLD_"][0], 32 << 20)
