"""What the command line sets for its process, and a library leaves to its user."""

import ctypes
import os
import platform
import sys
from pathlib import Path

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


def keep_compiled_programs(folder: Path) -> None:
    """Have JAX keep compiled programs in a folder, so that the next run finds them there.

    A cache that is already set up (`JAX_COMPILATION_CACHE_DIR`) stays. Where the folder cannot be
    written, every run compiles for itself; and on CPUs by Intel, for which XLA may refuse programs
    of its own that it reads again, with a warning for each (jax#38445).
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore
        return
    if jax.default_backend() == "cpu" and _by_intel():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _by_intel() -> bool:
    """Whether the processor is one of Intel's, as far as the system says."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return "Intel" in platform.processor()
