"""The data folder: of this user, writable, closed to others; anything else is refused in a sentence."""

import logging
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import SettingsWrong
from plugin.node import data_folder
from plugin.node.data_folder import open_data_folder
from plugin.node.lock import node_lock
from tests.support.node import glionode


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    """A command that ran before in this process may have left another one."""
    caplog.set_level(logging.WARNING)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_closed_to_others_whatever_the_umask(tmp_path: Path, umask: None) -> None:
    open_data_folder(tmp_path / "a" / "data")
    assert mode(tmp_path / "a" / "data") == 0o700
    with node_lock(tmp_path / "a" / "data"):
        assert mode(tmp_path / "a" / "data" / "serve.lock") == 0o600


@pytest.mark.parametrize("part", ["serve.lock", "archive", "postgres"])
def test_a_node_s_folder_that_was_open_is_closed_and_the_log_says_so(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / part).mkdir()
    (tmp_path / "site-rules.toml").touch()
    open_data_folder(tmp_path)
    assert mode(tmp_path) == 0o700
    assert caplog.messages == [f"closed the data folder {tmp_path} to other users; its mode was 0755"]
    open_data_folder(tmp_path)
    assert len(caplog.messages) == 1


def test_an_open_folder_with_files_of_others_is_not_taken(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "home of somebody").touch()
    with pytest.raises(SettingsWrong, match="is open to other users and holds what is not a node's"):
        open_data_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_file_in_the_place_of_the_folder_or_above_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsWrong, match="is a file; remove it"):
        open_data_folder(tmp_path / "file")
    with pytest.raises(SettingsWrong, match=r"cannot be used: Not a directory\. Make it a writable folder"):
        open_data_folder(tmp_path / "file" / "data")


def test_a_folder_in_the_place_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "serve.lock").mkdir()
    with pytest.raises(SettingsWrong, match=r"serve\.lock cannot be opened: Is a directory"), node_lock(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "serve.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsWrong, match="cannot be opened"), node_lock(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_or_read_only_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_folder, "make_folders", full)
    with pytest.raises(SettingsWrong, match=r"cannot be used: No space left on device\."):
        open_data_folder(tmp_path / "data")
    monkeypatch.setattr(os, "access", lambda *_: False)
    tmp_path.chmod(0o700)
    with pytest.raises(SettingsWrong, match="cannot be written to: permission denied"):
        open_data_folder(tmp_path)


@needs_root
@pytest.mark.parametrize("part", [".", "archive", "serve.lock"])
def test_what_belongs_to_another_user_is_named(tmp_path: Path, part: str) -> None:
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o700)
    if part != ".":
        (tmp_path / part).mkdir()
    os.chown(tmp_path / part, nobody.pw_uid, nobody.pw_gid)
    with pytest.raises(SettingsWrong, match=f"{tmp_path / part} belongs to nobody, and the node runs as root"):
        open_data_folder(tmp_path)


@needs_root
def test_another_user_cannot_hold_the_lock_of_a_node(data_dir: Path) -> None:
    """Also where the folder was open before, and the lock's file with it."""
    lock = data_dir / "serve.lock"
    lock.touch(mode=0o644)
    data_dir.chmod(0o755)  # the file alone must keep others out, too
    with node_lock(data_dir):
        nobody = pwd.getpwnam("nobody")
        code = f"import fcntl, os; os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid}); os.stat({str(lock)!r})"
        opens = f"fcntl.flock(open({str(lock)!r}), fcntl.LOCK_SH)"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; {opens}"], capture_output=True, text=True, check=False, timeout=60
        )
    assert "PermissionError" in done.stderr


def test_what_a_node_writes_is_for_its_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", str(tmp_path / "data"))
    made = tmp_path / "made"
    monkeypatch.setattr("plugin.node.run.deliver", lambda *_: made.touch())
    before = os.umask(0o000)
    try:
        assert glionode("deliver")[0] == 0
    finally:
        os.umask(before)
    assert mode(made) == 0o600
