"""What is loaded stays out of the collections of garbage, and those go on after it."""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from plugin.worker.garbage import loading, no_collections


def test_what_was_loaded_is_left_out_of_later_collections() -> None:
    try:
        with loading():
            assert not gc.isenabled()
            loaded = [[]]  # type: ignore[var-annotated]
        assert gc.isenabled()
        # `gc.get_objects` lists what collections look at.
        assert not any(each is loaded for each in gc.get_objects())
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("block", [loading, no_collections])
def test_garbage_is_collected_again_where_the_block_fails(block: Callable[[], AbstractContextManager[None]]) -> None:
    def fail() -> None:
        with block():
            assert not gc.isenabled()
            raise ValueError("no model")

    try:
        with pytest.raises(ValueError, match="no model"):
            fail()
        assert gc.isenabled()
    finally:
        gc.unfreeze()
