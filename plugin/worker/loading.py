"""Load libraries and model without the collector of garbage looking at them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage in the block, and leave out what it loaded from every later collection.

    Once in a process, around what stays until it ends. Without this, a quarter of the time of loading, of encoding and
    of ending goes into scanning some hundred thousand objects that are never freed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
