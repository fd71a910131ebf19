"""The archive: durable, safe against crashes, and confined to its folder."""

import io
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plugin.archive.incoming_file import IncomingFile, NoRoom
from plugin.archive.replaced_files import replacing_files
from plugin.archive.store import EmbeddedArchive, InstanceKey, Stored, WrongUid
from tests.support.durable_disk import DurableDisk

Watch = Callable[[Path], DurableDisk]
KEY = InstanceKey("1.2.3", "1.2.3.4", "1.2.3.4.5")


@pytest.fixture
def archive(tmp_path: Path) -> EmbeddedArchive:
    made = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=0)
    made.open()
    return made


def written(archive: EmbeddedArchive, *chunks: bytes | memoryview) -> IncomingFile:
    incoming = archive.create_file()
    for chunk in chunks:
        incoming.write(chunk)
    return incoming


def store(archive: EmbeddedArchive, *chunks: bytes | memoryview) -> Stored:
    return archive.store(KEY, written(archive, *chunks))


def test_an_instance_is_stored_byte_for_byte(archive: EmbeddedArchive, tmp_path: Path) -> None:
    assert store(archive, b"head", memoryview(b"body")) is Stored.NEW
    (path,) = archive.files("1.2.3")
    assert path.read_bytes() == b"headbody"
    assert path == tmp_path / "archive/1.2.3/1.2.3.4/1.2.3.4.5.dcm"
    assert archive.studies() == ("1.2.3",)
    assert archive.last_received("1.2.3") == path.parent.stat().st_mtime
    assert archive.first_received("1.2.3", 30) == path.stat().st_mtime


def test_an_unknown_study_has_nothing(archive: EmbeddedArchive) -> None:
    assert archive.files("9.9") == ()
    assert archive.last_received("9.9") is None
    assert archive.first_received("9.9", 30) is None


def test_a_duplicate_is_stored_once_and_other_bytes_replace_nothing(archive: EmbeddedArchive, tmp_path: Path) -> None:
    store(archive, b"first")
    assert store(archive, b"first") is Stored.SAME
    incoming = written(archive, b"other")
    assert archive.store(KEY, incoming) is Stored.DIFFERENT
    (path,) = archive.files("1.2.3")
    assert path.read_bytes() == b"first"
    assert incoming.path.read_bytes() == b"other"  # for a comparison
    incoming.discard()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_file_takes_the_place_of_another_which_is_kept(archive: EmbeddedArchive, tmp_path: Path) -> None:
    for uid in ("1.2.3.4.5", "1.2.3.4.5.1"):  # one begins like the other
        archive.store(InstanceKey("1.2.3", "1.2.3.4", uid), written(archive, b"first"))
    for content in (b"second", b"third"):
        archive.replace(KEY, written(archive, content))
    assert archive.path(KEY).read_bytes() == b"third"
    assert [path.read_bytes() for path in archive.replaced(KEY)] == [b"first", b"second"]
    assert archive.replaced(InstanceKey("1.2.3", "1.2.3.4", "1.2.3.4.5.1")) == ()
    assert len(archive.files("1.2.3")) == 2
    assert replacing_files(tmp_path / "archive/1.2.3") == (archive.path(KEY),)
    assert (archive.count_replacements("1.2.3"), archive.count_replacements("9.9")) == (2, 0)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_replacement_that_a_crash_interrupted_counts_once_it_is_done(
    archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def rename(_path: Path, _target: Path) -> None:
        raise Killed

    store(archive, b"first")
    second = written(archive, b"second")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            archive.replace(KEY, second)
    assert archive.path(KEY).read_bytes() == b"first"
    assert archive.replaced(KEY) == ()
    assert archive.count_replacements("1.2.3") == 0
    archive.replace(KEY, written(archive, b"second"))
    assert archive.path(KEY).read_bytes() == b"second"
    assert [path.read_bytes() for path in archive.replaced(KEY)] == [b"first"]


def test_replacements_by_several_threads_at_once_lose_none(archive: EmbeddedArchive) -> None:
    store(archive, b"0")
    contents = [str(number).encode() for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: archive.replace(KEY, written(archive, content)), contents))
    found = [path.read_bytes() for path in (*archive.replaced(KEY), archive.path(KEY))]
    assert found[0] == b"0"
    assert sorted(found) == [b"0", *contents]


def test_the_first_instance_is_that_after_the_last_pause(archive: EmbeddedArchive) -> None:
    for number, at in enumerate((1000, 1010, 9000, 9020, 9040)):
        key = InstanceKey("1.2.3", "1.2.3.4", f"1.{number}")
        archive.store(key, written(archive, b"x"))
        os.utime(archive.path(key), (at, at))
    assert archive.first_received("1.2.3", 30) == 9000
    assert archive.first_received("1.2.3", 15) == 9040
    assert archive.first_received("1.2.3", 10_000) == 1000


@pytest.mark.parametrize("uid", ["", "../1", "1/2", "1..2", "1.2.", ".1", "1.2\n", "1.a", "1" * 65, "１.２"])
def test_only_uids_become_paths(archive: EmbeddedArchive, uid: str) -> None:
    for key in ((uid, "1", "1"), ("1", uid, "1"), ("1", "1", uid)):
        with pytest.raises(WrongUid):
            InstanceKey(*key)
    with pytest.raises(WrongUid):
        archive.files(uid)


def test_unfinished_files_are_removed_at_the_next_start(archive: EmbeddedArchive, tmp_path: Path) -> None:
    incoming = archive.create_file()
    incoming.write(b"half")
    os.link(incoming.path, tmp_path / "incoming" / "killed.part")
    incoming.discard()
    assert archive.files("1.2.3") == ()
    assert EmbeddedArchive(tmp_path / "archive", 0).open() == 1
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_full_disk_raises_no_room_and_leaves_nothing(archive: EmbeddedArchive, tmp_path: Path) -> None:
    incoming = archive.create_file()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # EFBIG, where a full disk says ENOSPC
    try:
        incoming.write(bytes(1 << 16))
        with pytest.raises(NoRoom, match="File too large"):
            incoming.write(bytes(1 << 16))
        incoming.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert archive.files("1.2.3") == ()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_disk_that_takes_a_part_of_each_write_gets_all(archive: EmbeddedArchive, tmp_path: Path) -> None:
    class TakesThreeBytes(io.FileIO):
        def write(self, content: Any, /) -> int:
            return super().write(content[:3])

    incoming = archive.create_file()
    incoming._file.close()
    incoming._file = TakesThreeBytes(incoming.path, "r+")
    incoming.write(b"12345678")
    incoming.write(memoryview(b"9"))
    assert archive.store(KEY, incoming) is Stored.NEW
    assert archive.path(KEY).read_bytes() == b"123456789"


def test_less_than_the_minimum_of_free_space_raises_no_room(tmp_path: Path) -> None:
    archive = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=1 << 60)
    archive.open()
    with pytest.raises(NoRoom, match="MiB are free"):
        store(archive, b"x")


def stored_durably(archive: EmbeddedArchive, disk: DurableDisk, content: bytes) -> bool:
    """Store the instance, and return whether it is found after a power cut."""
    store(archive, content)
    return disk.after_power_cut().get("archive/1.2.3/1.2.3.4/1.2.3.4.5.dcm") == content


def test_a_stored_instance_survives_a_power_cut(tmp_path: Path, durable_disk: Watch) -> None:
    disk = durable_disk(tmp_path)  # before the archive makes its folders
    archive = EmbeddedArchive(tmp_path / "archive", minimum_free_bytes=0)
    archive.open()
    assert stored_durably(archive, disk, b"x")


def test_folders_that_another_thread_made_a_moment_ago_are_synced(
    archive: EmbeddedArchive, tmp_path: Path, durable_disk: Watch
) -> None:
    disk = durable_disk(tmp_path)
    (tmp_path / "archive/1.2.3/1.2.3.4").mkdir(parents=True)
    assert stored_durably(archive, disk, b"x")


def test_folders_that_are_made_anew_after_a_purge_are_synced(
    archive: EmbeddedArchive, tmp_path: Path, durable_disk: Watch
) -> None:
    disk = durable_disk(tmp_path)
    for content in (b"x", b"y"):
        assert stored_durably(archive, disk, content)
        assert stored_durably(archive, disk, content)
        (tmp_path / "archive/1.2.3").rename(tmp_path / f"purged {content.decode()}")
        (tmp_path / "archive/1.2.3/1.2.3.4").mkdir(parents=True)


def test_a_series_that_is_known_costs_one_sync_of_a_folder(
    archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"x", b"x"):
        store(archive, content)
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    archive.store(InstanceKey("1.2.3", "1.2.3.4", "1.2.3.4.6"), written(archive, b"z"))
    assert synced[1:] == ["1.2.3.4"], "after the file"
