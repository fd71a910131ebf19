"""Test the licences of everything installed with glionode, and that the lock files list all of it."""

import re
import tomllib
from email.message import Message
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

LOCKS = {"node.txt": (), "test.txt": ("train", "test")}
"""The lock files, and the extras that each has."""
NOT_LOCKED = re.compile(r"torch|triton|(nvidia|cuda)-.*")
"""PyTorch and what one build of it brings; scripts/lock says why."""


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, metadata.Distribution]:
    """Return every distribution that `pip install name[extras]` brings on this machine, by canonical name."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def copyleft(about: Message) -> list[str]:
    """Return the licences in a distribution's metadata that are GPL or AGPL. LGPL and linking exceptions are not."""
    licences = [*about.get_all("License-Expression", ()), *about.get_all("Classifier", ())]
    # `License` may hold a whole text, with the licences of all that a wheel bundles; its first line names its own.
    licences += [text.splitlines()[0] for text in about.get_all("License", ()) if text]
    parts = [part for each in licences for part in re.split(r" AND | OR ", each)]
    copyleft_words, allowed_words = r"GPL|General Public License", r"LGPL|Lesser|Library|WITH GCC-exception"
    return [part for part in parts if re.search(copyleft_words, part) and not re.search(allowed_words, part)]


def about(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    "fields",
    [
        {"License": "GPL V3.0"},
        {"License": "GNU Affero General Public License v3"},
        {"License_Expression": "MIT AND GPL-3.0-or-later"},
        {"License_Expression": "AGPL-3.0-only"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v2 (GPLv2)"},
    ],
)
def test_copyleft_is_recognised(fields: dict[str, str]) -> None:
    assert copyleft(about(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"License_Expression": "LGPL-3.0-only"},
        {"License_Expression": "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1"},
        {"Classifier": "License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)"},
        {"License": "Copyright of somebody\n\nThis wheel bundles libgfortran, GPL-3.0 with an exception"},
        {"License": "MIT"},
    ],
)
def test_permissive_licences_pass(fields: dict[str, str]) -> None:
    assert copyleft(about(**fields)) == []


def test_nothing_installed_with_the_node_is_copyleft() -> None:
    installed = closure("glionode")
    assert len(installed) > 40
    found_copyleft = {name: copyleft(each.metadata) for name, each in installed.items()}
    assert {name: licences for name, licences in found_copyleft.items() if licences} == {}


def locked(name: str) -> dict[str, set[str]]:
    """Return the versions of each package in a lock file; one may have several, for several versions of Python."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    versions: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert "--hash=sha256:" in line, f"{name}: {line.split()[0]} has no hash"
            package, version = line.split()[0].split("==")
            versions.setdefault(canonicalize_name(package), set()).add(version)
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_all_that_its_extras_bring(name: str) -> None:
    versions = locked(name)
    for package, each in closure("glionode", frozenset({"", *LOCKS[name]})).items():
        if package != "glionode" and not NOT_LOCKED.fullmatch(package):
            assert package in versions, f"{package} is not in requirements/{name}: run `make lock`"
            assert each.version in versions[package], f"{package} {each.version} is installed; run `make test` anew"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_fits_what_pyproject_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in LOCKS[name]:
        wanted += project["optional-dependencies"][extra]
    versions = locked(name)
    for needed in map(Requirement, wanted):
        if not NOT_LOCKED.fullmatch(needed.name):
            for version in versions[canonicalize_name(needed.name)]:
                assert needed.specifier.contains(Version(version)), f"{needed} and {version}: run `make lock`"


def test_both_lock_files_agree() -> None:
    node, test = locked("node.txt"), locked("test.txt")
    assert {name: versions for name, versions in node.items() if test.get(name) != versions} == {}
