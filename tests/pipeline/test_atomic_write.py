"""A file is replaced as a whole: in this order, durably, and not at all where something fails on the way."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.atomic_write import make_folders, replacing, write_file
from tests.support.durable_disk import DurableDisk


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order."""
    recorded: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        recorded.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> Path:
        recorded.append(f"rename {source.name} to {target.name}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    return recorded


@pytest.mark.parametrize("content", [b"new", "new", memoryview(b"new")])
def test_the_content_is_synced_then_renamed_then_the_folder_is_synced(
    tmp_path: Path, steps: list[str], content: bytes | str | memoryview
) -> None:
    (tmp_path / "a").write_bytes(b"older")
    write_file(tmp_path / "a", content)
    assert steps == ["sync .a.part", "rename .a.part to a", f"sync {tmp_path.name}"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


def test_without_durability_nothing_is_synced(tmp_path: Path, steps: list[str]) -> None:
    write_file(tmp_path / "a", b"new", durable=False)
    assert steps == ["rename .a.part to a"]


def test_text_is_written_as_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "µ\r\n\n")
    assert (tmp_path / "a").read_bytes() == b"\xc2\xb5\r\n\n"


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_file(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_before_the_rename_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"older")
    monkeypatch.setattr(os if failing == "fsync" else Path, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"older"}


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel's stand-in for a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(tmp_path / "a", bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"older"}


def test_an_exception_of_the_writer_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"older")

    def write_half() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"older"}


def test_a_killed_writer_leaves_the_old_file_and_the_next_writer_replaces_its_leftover(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"older")
    script = (
        "import os, pathlib, sys; from pipeline.atomic_write import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'much more than the next writer writes'); file.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "a"], check=False).returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.part", "a"]
    assert (tmp_path / "a").read_bytes() == b"older"
    write_file(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


Watch = Callable[[Path], DurableDisk]


def test_only_what_was_written_durably_survives_a_power_cut(tmp_path: Path, durable_disk: Watch) -> None:
    (tmp_path / "a").write_bytes(b"older")
    disk = durable_disk(tmp_path)
    write_file(tmp_path / "a", b"new", durable=False)
    write_file(tmp_path / "b", b"new", durable=False)
    assert disk.after_power_cut() == {"a": b"older"}
    write_file(tmp_path / "a", b"newest")
    assert disk.after_power_cut() == {"a": b"newest", "b": b""}, "b has its name by the sync of the folder"


def test_made_folders_survive_a_power_cut_with_what_is_in_them(tmp_path: Path, durable_disk: Watch) -> None:
    disk = durable_disk(tmp_path)
    make_folders(tmp_path / "a" / "b" / "c", mode=0o700)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {0o700}
    write_file(tmp_path / "a" / "b" / "c" / "d", b"new")
    assert disk.after_power_cut() == {"a/b/c/d": b"new"}
    make_folders(tmp_path / "a" / "b" / "c")


def test_folders_that_another_made_and_did_not_sync_survive_with_what_is_in_them(
    tmp_path: Path, durable_disk: Watch
) -> None:
    disk = durable_disk(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_file(tmp_path / "a" / "b" / "c", b"new")
    assert disk.after_power_cut() == {}
    make_folders(tmp_path / "a" / "b", within=tmp_path)
    assert disk.after_power_cut() == {"a/b/c": b"new"}


def test_a_folder_in_one_that_may_not_be_read_can_be_used_but_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    (tmp_path / "there").mkdir()
    monkeypatch.setattr("pipeline.atomic_write.sync_folder", forbid)
    make_folders(tmp_path / "there")
    with pytest.raises(PermissionError):
        make_folders(tmp_path / "new")
