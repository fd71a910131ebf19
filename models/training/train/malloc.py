"""Keep the memory that training frees, so that the kernel need not clear it anew for every step."""

import ctypes

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
"""Numbers of glibc's `mallopt` (malloc.h)."""
_TOP_PAD_BYTES = 500_000_000


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep what this process frees, until it ends. Returns whether it will.

    A step on a whole head takes and gives back gigabytes in blocks of a hundred megabytes, each of which malloc maps
    for itself and the kernel fills with zeros, page by page: a third of the step on a CPU (benchmarks/pretrain.py). The
    process then holds on to its peak. Where the C library is another one, nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wishes = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in wishes)
