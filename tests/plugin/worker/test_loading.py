"""What is loaded stays out of the collections of garbage, and those go on."""

import gc

import pytest

from plugin.worker.loading import loading


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


def test_garbage_is_collected_again_where_loading_fails() -> None:
    try:
        with pytest.raises(ValueError, match="no model"), loading():
            raise ValueError("no model")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
