"""Small data sets for tests."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if importlib.util.find_spec("nibabel") is None:
    # It comes with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]

# small_cases.py is imported by name.
sys.path.insert(0, str(Path(__file__).parent))

from small_cases import NAMES, ROLES

from models.training.dataset.identity import Pseudonyms
from models.training.dataset.manifest import Source
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, NewCase


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write cases, finish, and give the folder."""

    def write(*cases: NewCase, shares: Shares | None = None, folder: str = "set") -> Path:
        writer = DatasetWriter(tmp_path / folder, Source.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
        for case in cases:
            writer.add(case)
        writer.finish(shares or Shares(), seed=1)
        return tmp_path / folder

    return write
