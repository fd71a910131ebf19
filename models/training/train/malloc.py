"""Keep the memory that training frees, so that the kernel need not clear it again for every step."""

import ctypes

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
"""Numbers of glibc's `mallopt` (malloc.h)."""
_TOP_PAD_BYTES = 500_000_000


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what this process frees until it ends. Return whether it will.

    A step on a whole head allocates and frees gigabytes in blocks of a hundred megabytes. By default malloc maps each
    of them separately and the kernel fills it with zeros, page by page: a third of the step on a CPU
    (benchmarks/pretrain.py). The process then holds on to its peak. With another C library nothing
    changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in options)
