"""Tests of training need the extra for training, and run on one CPU thread."""

import importlib.util
from collections.abc import Iterator

import pytest
import torch

if importlib.util.find_spec("lightning") is None or importlib.util.find_spec("nibabel") is None:
    # They come with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Toy networks are too small to be shared among threads, which would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
