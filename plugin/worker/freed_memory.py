"""Give memory that this process has freed back to the system."""

import ctypes


def return_freed_memory() -> None:
    """Let glibc's malloc return the pages that hold nothing, of all of its arenas; nothing with another C library.

    Each thread that allocates gets an arena, and an arena keeps what is freed below its last block: after the steps of
    a study this is up to 200 MB, which add to the network's peak, and to what a worker holds while it waits.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
