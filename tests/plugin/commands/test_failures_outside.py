"""What disk, memory, database or system refuse is said in a sentence; only a defect is called a defect of ours."""

import os
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from models.package import PackageBroken
from pipeline.errors import StudyUnreadable
from plugin.commands import app
from plugin.errors import describe_failure

OURS = "a defect of glionode"


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:  # noqa: BLE001 - it has a traceback now
        return caught


@pytest.mark.parametrize(
    ("exc", "sentence"),
    [
        (StudyUnreadable("The study is empty."), "The study is empty."),
        (PackageBroken("The weights differ."), "The weights differ."),
        (OSError(28, "x", "/secret^NAME"), "No space left on device. Make room on the disk."),
        (PermissionError(13, "x"), "Permission denied. Run this as the user that owns it, or give that user access."),
        (FileNotFoundError(2, "x", "/secret^NAME"), "No such file or directory."),
        (MemoryError(), "Memory did not suffice."),
        (psycopg.OperationalError("MARKER"), "The database does not answer, or refuses (OperationalError)."),
        (psycopg.errors.DiskFull("MARKER"), "The database does not answer, or refuses (DiskFull)."),
        (PoolTimeout("MARKER"), "The database does not answer, or refuses (PoolTimeout)."),
    ],
)
def test_a_failure_outside_is_no_defect(exc: Exception, sentence: str) -> None:
    said = describe_failure(raised(exc))
    assert said.startswith(sentence)
    assert OURS not in said
    assert "NAME" not in said
    assert "MARKER" not in said


@pytest.mark.parametrize(
    "exc",
    [ValueError("MARKER"), KeyError("MARKER"), psycopg.errors.UndefinedColumn("MARKER"), OSError("without a number")],
)
def test_what_is_ours_is_called_so_without_its_message(exc: Exception) -> None:
    said = describe_failure(raised(exc))
    assert OURS in said
    assert f"{type(exc).__name__} in test_failures_outside.py line " in said
    assert "MARKER" not in said


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["glionode", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return ended.value.code, capsys.readouterr().err


def test_a_command_that_the_system_refuses_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", "/data/archive")

    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", str(tmp_path))
    monkeypatch.setattr("plugin.node.status.read_status", refuse)
    status, said = run_main(monkeypatch, capsys, "status")
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("glionode: /data/archive: Read-only file system. Its file system is read-only: mount it")


def test_a_defect_shows_where_it_is_but_not_what_it_quotes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("MARKER")

    monkeypatch.setattr("plugin.node.status.read_status", fail)
    status, said = run_main(monkeypatch, capsys, "status")
    assert status == 1
    assert "in fail" in said
    assert OURS in said.splitlines()[-1]
    assert "MARKER" not in said.replace('raise ValueError("MARKER")', "")


COMMANDS = ("status", "jobs", "serve", "retry --failed", "purge 1.2.3", "force 1.2.3", "replacements 1.2.3", "cancel x")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_ends_in_a_traceback_over_a_foreign_data_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    """A file stands in its place; as root no folder is closed."""
    (tmp_path / "data").touch()
    for name in [name for name in os.environ if name.startswith("GLIONODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", str(tmp_path / "data"))
    before = os.umask(0o077)
    try:
        status, said = run_main(monkeypatch, capsys, *command.split())
    finally:
        os.umask(before)
    assert status == (0 if command.startswith("replacements") else 1), "there are none"
    assert "Traceback" not in said
    assert OURS not in said
    assert "unexpected" not in said


def test_a_full_disk_in_a_study_is_no_defect_of_the_study(tmp_path: Path) -> None:
    """The file that a foreign library named may bear a name."""
    said = describe_failure(raised(OSError(122, "x", f"{tmp_path}/DOE^JOHN.dcm")))
    assert said == "Disk quota exceeded. Make room, or raise the quota of the node's user."
