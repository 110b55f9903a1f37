"""The C allocator of a process that trains on a CPU."""

import ctypes
import sys

# glibc's names for mallopt's parameters (malloc.h).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step rather than return it to the system.

    XLA allocates the scratch memory of a CPU program anew in every call, over 100 MB for a small
    CNN. By default glibc takes blocks of that size from the system and returns them at once, and
    clearing their pages took a third of that CNN's step. Call it before JAX starts its threads;
    it holds for the whole process, so a library should not. No effect where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_ARENA_MAX, 1)  # the other arenas are too small for such blocks
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)
