"""Small data sets for tests."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

if importlib.util.find_spec("nibabel") is None:
    # It comes with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write cases as a data set under tmp_path, and give the folder."""
    from tests.support.small_cases import write_cases

    def write(*cases: object, folder: str = "set", **options: object) -> Path:
        write_cases(tmp_path / folder, *cases, **options)
        return tmp_path / folder

    return write
