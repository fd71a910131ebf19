"""Copies of what does not parse: kept once, within bounds, the oldest removed first, never named by their content."""

import os
from pathlib import Path

import pytest

from plugin.archive.incoming_file import IncomingFile
from plugin.archive.quarantine import Quarantine, count_quarantined, quarantine_folder
from plugin.archive.store import EmbeddedArchive


@pytest.fixture
def archive(tmp_path: Path) -> EmbeddedArchive:
    made = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=0)
    made.open()
    return made


def receive(archive: EmbeddedArchive, content: bytes) -> IncomingFile:
    incoming = archive.create_file()
    incoming.write(content)
    return incoming


def keep(quarantine: Quarantine, archive: EmbeddedArchive, content: bytes, age_s: int = 0) -> str | None:
    incoming = receive(archive, content)
    written = incoming.path.stat().st_mtime
    incoming.read_from(0)
    os.utime(incoming.path, (written - age_s, written - age_s))
    name = quarantine.keep(incoming)
    incoming.discard()
    return name


def kept(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in quarantine_folder(folder).iterdir()}


def test_equal_files_are_kept_once_under_a_name_without_content(archive: EmbeddedArchive, tmp_path: Path) -> None:
    quarantine = Quarantine(quarantine_folder(tmp_path), most_files=10, most_bytes=1000)
    assert count_quarantined(tmp_path) == 0
    names = {keep(quarantine, archive, content) for content in (b"DOE^JANE", b"DOE^JANE", b"other")}
    assert names == {path.name for path in quarantine_folder(tmp_path).iterdir()}
    assert kept(tmp_path) == {b"DOE^JANE", b"other"}
    assert count_quarantined(tmp_path) == 2
    assert not any("DOE" in str(name) for name in names)


def test_the_oldest_are_removed_beyond_the_number(archive: EmbeddedArchive, tmp_path: Path) -> None:
    quarantine = Quarantine(quarantine_folder(tmp_path), most_files=2, most_bytes=1000)
    for content, age_s in ((b"second", 20), (b"first", 30), (b"third", 10)):
        keep(quarantine, archive, content, age_s)
    assert kept(tmp_path) == {b"second", b"third"}


def test_the_oldest_are_removed_beyond_the_size(archive: EmbeddedArchive, tmp_path: Path) -> None:
    quarantine = Quarantine(quarantine_folder(tmp_path), most_files=10, most_bytes=10)
    for content, age_s in ((b"a" * 6, 30), (b"b" * 5, 20), (b"c" * 5, 10)):
        keep(quarantine, archive, content, age_s)
    assert kept(tmp_path) == {b"b" * 5, b"c" * 5}
    assert keep(quarantine, archive, b"d" * 11) is None, "larger than all that may be kept"
    assert kept(tmp_path) == {b"b" * 5, b"c" * 5}


def test_no_file_is_kept_if_the_limit_is_zero(archive: EmbeddedArchive, tmp_path: Path) -> None:
    assert keep(Quarantine(quarantine_folder(tmp_path), most_files=0, most_bytes=10), archive, b"a") is None
    assert not quarantine_folder(tmp_path).exists()


def test_a_folder_that_cannot_be_created_raises_nothing(archive: EmbeddedArchive, tmp_path: Path) -> None:
    quarantine_folder(tmp_path).write_bytes(b"in the way")
    assert keep(Quarantine(quarantine_folder(tmp_path), most_files=1, most_bytes=10), archive, b"a") is None
