"""What every test may ask for: other people's programs, and a folder of the data beside the checkout."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests are shared among processes, keep a file's together, and all that need the demonstration's minute."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    slow = {item.path for item in items if "demonstration" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("demonstration" if item.path in slow else str(item.path)))


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
