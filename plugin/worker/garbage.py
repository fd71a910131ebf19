"""Keep the collector of garbage away where many objects are made that are none, such as modules and data sets."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect no garbage in the block. For short blocks that make some hundred thousand objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage in the block, and leave out what it loaded from every later collection.

    Once in a process, around what stays until it ends. Without this, a quarter of the time of loading, of encoding and
    of ending goes into scanning objects that are never freed.
    """
    with no_collections():
        try:
            yield
        finally:
            gc.freeze()
