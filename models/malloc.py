"""Tell glibc's malloc to keep the memory that is freed, so that the kernel need not clear it again, or to return it.

Volumes are allocated and freed in blocks of up to hundreds of megabytes. By default malloc maps each of them
separately, and the kernel fills it with zeros, page by page: a third of a step of training (benchmarks/pretrain.py) and
of alignment (benchmarks/whole_case.py) on a CPU. With another C library nothing changes.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
"""Numbers of glibc's `mallopt` (malloc.h)."""
_KEEP = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
_RETURN = ((_MMAP_MAX, 65536), (_TRIM_THRESHOLD, 64 << 20), (_MMAP_THRESHOLD, 32 << 20))
"""The greatest thresholds that malloc comes to by itself, which it no longer does once it was told any."""
_TOP_PAD_BYTES = 500_000_000


def keep_freed_memory() -> bool:
    """Keep what this process frees until it ends, which then holds on to its peak. Return whether it will."""
    return _tell((*_KEEP, (_TOP_PAD, _TOP_PAD_BYTES)))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in the block for its later allocations, and return it to the system at the end."""
    _tell(_KEEP)
    try:
        yield
    finally:
        _tell(_RETURN)
        return_freed_memory()


def return_freed_memory() -> None:
    """Return the pages that hold nothing, of all arenas, to the system.

    Each thread that allocates gets an arena, and an arena keeps what is freed below its last block: after the steps of
    a study this is up to 200 MB, which add to the network's peak, and to what a worker holds while it waits.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def _tell(options: tuple[tuple[int, int], ...]) -> bool:
    """Set options of `mallopt`; return whether all were taken."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(option, value) == 1 for option, value in options)
