"""Changelog, project file and installed package speak of one version."""

import ast
import re
import tomllib

import pytest

from dicom_seg.equipment import software_versions
from models.package import IntendedUse
from models.software_version import software_version
from pipeline.result import ModelIdentity
from plugin.database.migrations import BREAKING, MIGRATIONS
from tests.support.node import glionode
from tests.support.paths import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def headings(level: int) -> list[str]:
    """Return the headings of this level in the changelog, in their order."""
    return re.findall(rf"^{'#' * level} (.+)$", CHANGELOG, re.MULTILINE)


def test_the_changelog_has_the_version_of_the_project_first() -> None:
    unreleased, *released = headings(2)
    assert unreleased == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", each) for each in released]
    assert all(dated), released
    versions = [each[1] for each in dated if each]
    assert versions[0] == VERSION
    numbers = [tuple(map(int, each.split("."))) for each in versions]
    assert numbers == sorted(numbers, reverse=True)
    assert {*headings(3)} <= {*SECTIONS}


def test_the_changelog_says_what_becomes_of_the_database() -> None:
    unreleased, _, released = CHANGELOG.partition("## [Unreleased]")[2].partition("\n## ")
    last = int(re.findall(r"^.*Database: schema (\d+)", released, re.MULTILINE)[0])
    line = "\n".join(re.findall(r"^Database: (.+)$", unreleased, re.MULTILINE))
    assert line.startswith(f"schema {last} is migrated.") == (max(MIGRATIONS) > last)
    assert "may go on with it" in line or any(number > last for number in BREAKING)


def test_the_installed_package_the_command_and_the_objects_have_that_version() -> None:
    assert software_version() == VERSION
    assert glionode("--version") == (0, f"glionode {VERSION}\n")
    model = ModelIdentity("m", "1", "0" * 64, IntendedUse.RESEARCH)
    assert software_versions(model)[0] == f"glionode {VERSION}"


@pytest.mark.parametrize("room", ["models", "pipeline", "dicom_seg", "plugin"])
def test_one_module_asks_for_the_version(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        if path.name == "software_version.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and [a.value for a in node.args if isinstance(a, ast.Constant)]
            function = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert not ("version" in function and called == ["glionode"]), f"{path}: use software_version()"
