"""A file is replaced as a whole: in this order, durably, and not at all where something fails on the way."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.atomic_write import replacing, write_file


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
