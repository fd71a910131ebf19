"""Fixtures for all tests: other packages' programs, and the data beside the checkout."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from plugin.logs import limit_library_logging
from tests.support.durable_disk import DurableDisk
from tests.support.installed import find_program
from tests.support.paths import ROOT

SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadgroup, run the tests of a file in one process, and all tests that need the demonstration in one.

    xdist's own groups do not work with pytest 9.2, which drops the suffix that xdist adds to a test's name.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    # The tests with most to wait for come first, see below; xdist would run files with few tests, as theirs are, last.
    config.option.loadscopereorder = False

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0])

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the end-to-end tests first: at the end, one process would run them while the others have nothing left."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@cache
def _group(path: Path) -> str:
    """Return the group of a test file: the file, unless its tests use the fixtures of the demonstration."""
    return (
        "demonstration" if re.search(r"\b(demonstration: Demonstration|study: Path)\b", path.read_text()) else str(path)
    )


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """Let every test log as a node does, whatever commands earlier tests ran in this process."""
    loggers = [logging.getLogger(), *(each for each in logging.root.manager.loggerDict.values())]
    levels = {each: each.level for each in loggers if isinstance(each, logging.Logger)}
    logging.getLogger().setLevel(logging.INFO)
    limit_library_logging(logging.INFO)
    yield
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Find a program of another package by its name; without it, the test is skipped, and fails under CI."""
    return find_program


@pytest.fixture
def durable_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], DurableDisk]]:
    """Watch what of a folder would survive a power cut; all that is in it counts as on disk."""
    with ExitStack() as stack:

        def watch(folder: Path) -> DurableDisk:
            disk = DurableDisk(folder, monkeypatch)
            stack.callback(disk.close)
            return disk

        yield watch


@pytest.fixture
def shared_data() -> Path:
    """Real and semi-real data beside the checkout; without it, the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder shared/data beside the checkout is missing")
    return SHARED_DATA
