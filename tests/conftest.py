"""What every test may ask for: other people's programs, and a folder of the data beside the checkout."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests are shared among processes, keep a file's together, and all that need the demonstration's minute.

    xdist's own groups are a suffix that it puts to a test's name, and pytest 9.2 keeps none.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0])

    return ByFile(config, log)


@cache
def _group(path: Path) -> str:
    """A file is its own group, unless its tests ask for the fixtures of the demonstration."""
    return (
        "demonstration" if re.search(r"\b(demonstration: Demonstration|study: Path)\b", path.read_text()) else str(path)
    )


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """A program of another package by name; where it is missing the test is skipped, and under CI it fails."""

    def find(name: str) -> str:
        # pynetdicom's wheel brings a storescu and a storescp of its own; DCMTK's are meant, so the environment's
        # folder comes last. The dcmqi wheel puts its programs there.
        environment = str(Path(sys.executable).parent)
        others = [folder for folder in os.get_exec_path() if folder != environment]
        path = shutil.which(name, path=os.pathsep.join([*others, "/usr/sbin", environment]))
        if path is None:
            message = f"program {name} is missing; `make test` as root installs it"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture
def shared_data() -> Path:
    """Real and semi-real data beside the checkout; tests that use it are skipped where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the trial data beside the checkout is not here")
    return SHARED_DATA
