"""The archive: durable, crash-safe, and never outside its folder."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.archive import EmbeddedArchive, InstanceKey, NoRoom, Stored, WrongUid

KEY = InstanceKey("1.2.3", "1.2.3.4", "1.2.3.4.5")


@pytest.fixture
def archive(tmp_path: Path) -> EmbeddedArchive:
    made = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=0)
    made.open()
    return made


def test_what_is_stored_is_there_byte_for_byte(archive: EmbeddedArchive, tmp_path: Path) -> None:
    assert archive.store(KEY, (b"head", memoryview(b"body"))) is Stored.NEW
    (path,) = archive.files("1.2.3")
    assert path.read_bytes() == b"headbody"
    assert path == tmp_path / "archive/1.2.3/1.2.3.4/1.2.3.4.5.dcm"
    assert archive.studies() == ("1.2.3",)
    assert archive.last_received("1.2.3") == path.parent.stat().st_mtime
    assert archive.first_received("1.2.3") == path.stat().st_mtime


def test_an_unknown_study_has_nothing(archive: EmbeddedArchive) -> None:
    assert archive.files("9.9") == ()
    assert archive.last_received("9.9") is None
    assert archive.first_received("9.9") is None


def test_a_duplicate_is_kept_once_and_other_bytes_never_replace(archive: EmbeddedArchive, tmp_path: Path) -> None:
    archive.store(KEY, (b"first",))
    assert archive.store(KEY, (b"first",)) is Stored.SAME
    assert archive.store(KEY, (b"other",)) is Stored.DIFFERENT
    (path,) = archive.files("1.2.3")
    assert path.read_bytes() == b"first"
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.parametrize("uid", ["", "../1", "1/2", "1..2", "1.2.", ".1", "1.2\n", "1.a", "1" * 65, "１.２"])
def test_what_is_no_uid_becomes_no_path(archive: EmbeddedArchive, uid: str) -> None:
    for key in ((uid, "1", "1"), ("1", uid, "1"), ("1", "1", uid)):
        with pytest.raises(WrongUid):
            InstanceKey(*key)
    with pytest.raises(WrongUid):
        archive.files(uid)


def test_what_was_cut_off_is_removed_at_the_next_start(archive: EmbeddedArchive, tmp_path: Path) -> None:
    def cut_off() -> Iterator[bytes]:
        yield b"half"
        os.link(next((tmp_path / "incoming").iterdir()), tmp_path / "incoming" / "killed.part")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.store(KEY, cut_off())
    assert archive.files("1.2.3") == ()
    assert EmbeddedArchive(tmp_path / "archive", 0).open() == 1
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_full_disk_is_no_room_and_leaves_nothing(archive: EmbeddedArchive, tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoRoom, match="No space left"):
        archive.store(KEY, full())
    assert archive.files("1.2.3") == ()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_below_the_floor_is_no_room(tmp_path: Path) -> None:
    archive = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=1 << 60)
    archive.open()
    with pytest.raises(NoRoom, match="MiB are free"):
        archive.store(KEY, (b"x",))


def test_it_is_synced_before_store_returns(archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    archive.store(KEY, (b"x",))
    (path,) = archive.files("1.2.3")
    assert synced[0].endswith(".part")
    assert synced[-1] == str(path.parent)
    assert {str(path.parent.parent), str(path.parent.parent.parent)} <= set(synced)
