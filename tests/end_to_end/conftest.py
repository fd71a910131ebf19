"""One demonstration for all end-to-end tests, because it takes a minute; and the installations of Orthanc."""

import shutil
from pathlib import Path

import pytest

from tests.support.command_line import Demonstration, glionode
from tests.support.installed import OrthancInstallation, find_orthanc, orthancs_to_test


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """The result of `glionode demo`, run once; tests do not change it."""
    out = tmp_path_factory.mktemp("demonstration") / "demo"
    return Demonstration(glionode("demo", out), out)


@pytest.fixture(scope="session", params=orthancs_to_test())
def orthanc(request: pytest.FixtureRequest) -> OrthancInstallation:
    """An Orthanc: the distribution's, and the current one where it is installed."""
    return find_orthanc(current=request.param == "current")


@pytest.fixture
def study(demonstration: Demonstration, tmp_path: Path) -> Path:
    """A copy of the phantom's DICOM files that a test may change."""
    assert demonstration.finished.status == 0, demonstration.finished.err
    copy = tmp_path / "study"
    shutil.copytree(demonstration.study, copy)
    return copy
