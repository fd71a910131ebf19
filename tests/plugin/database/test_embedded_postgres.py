"""The embedded server, as root and as an ordinary user, in a folder with a long path, and after a kill."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from plugin.database import embedded_postgres, server_log
from plugin.database.embedded_postgres import EmbeddedPostgres, embedded_url, start_postgres
from plugin.errors import DatabaseUnavailable
from tests.support.paths import ROOT

USE = """
import sys, psycopg
from pathlib import Path
from plugin.database.embedded_postgres import start_postgres
server = start_postgres(Path(sys.argv[1]))
print(psycopg.connect(server.url).execute("SELECT 6 * 7").fetchone()[0])
server.stop()
print(server.process.returncode)
"""


@contextlib.contextmanager
def running(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = start_postgres(data_dir)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def other_process(program: Callable[[str], str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of the user that the server runs as."""
    nobody = pwd.getpwnam("nobody")
    user = [program("setpriv"), f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--"]
    command = [*(user if os.geteuid() == 0 else []), program("sleep"), "600"]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(server: EmbeddedPostgres, question: str) -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(question).fetchone()  # type: ignore[call-overload]
    return row[0] if row else None


def test_it_starts_keeps_data_and_stops(data_dir: Path) -> None:
    with running(data_dir) as server:
        assert ask(server, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == 0
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    assert server.process.returncode == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(embedded_url(data_dir))
    with running(data_dir) as again:
        assert ask(again, "SELECT value FROM kept") == 42
        assert ask(again, "SHOW listen_addresses") == ""


def test_after_a_kill_committed_data_is_there(data_dir: Path) -> None:
    server = start_postgres(data_dir)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with running(data_dir) as again:
        assert ask(again, "SELECT value FROM kept") == 42


def test_after_a_kill_it_waits_for_backends_that_have_not_exited(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_postgres(data_dir)
    with psycopg.connect(server.url) as connection:
        late = connection.info.backend_pid
        os.kill(late, signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
    runs_in = embedded_postgres._runs_in

    def let_it_notice(pid: int, folder: Path) -> bool:
        runs = runs_in(pid, folder)
        if runs and pid == late:
            os.kill(late, signal.SIGCONT)
        return runs

    monkeypatch.setattr(embedded_postgres, "_runs_in", let_it_notice)
    try:
        assert server.ensure_running()
        assert ask(server, "SELECT 42") == 42
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(late, signal.SIGCONT)
        server.stop()


def test_a_server_that_outlived_its_node_is_replaced(data_dir: Path) -> None:
    orphan = start_postgres(data_dir)
    with running(data_dir) as server:
        assert orphan.process.wait(10) == 0
        assert ask(server, "SELECT 42") == 42


def test_a_pid_that_another_process_has_by_now_does_not_keep_it_from_starting(
    data_dir: Path, program: Callable[[str], str]
) -> None:
    """In a container, after a power cut, the first few process ids are taken again by others of the same user."""
    start_postgres(data_dir).stop()
    with other_process(program) as other:
        (data_dir / "postgres/cluster/postmaster.pid").write_text(f"{other.pid}\n{data_dir}\n")
        with running(data_dir) as server:
            assert ask(server, "SELECT 42") == 42
        assert other.poll() is None, "it was not mistaken for a server"


def test_a_server_that_cannot_be_seen_keeps_others_out_as_long_as_it_lives(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a node that was killed in another container, whose processes are not in /proc here."""
    with running(data_dir):
        monkeypatch.setattr(embedded_postgres, "_runs_in", lambda *_: False)
        monkeypatch.setattr(embedded_postgres, "_BACKENDS_S", 0.1)
        with pytest.raises(DatabaseUnavailable, match="another database server still runs on it"):
            start_postgres(data_dir)
        assert (data_dir / "postgres/cluster/postmaster.pid").exists()
    with running(data_dir) as server:
        assert ask(server, "SELECT 42") == 42


def test_its_log_is_bounded_and_holds_no_line_for_each_connection(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = data_dir / "postgres/log"
    monkeypatch.setattr(server_log, "_LARGEST_LOG_BYTES", 2000)
    with running(data_dir) as server:
        for _ in range(40):
            with contextlib.suppress(psycopg.Error):
                ask(server, "SELECT 1 / 0")
            assert not server.ensure_running()
        assert "division by zero" in (data_dir / "postgres/log.1").read_text()
        assert "SELECT 1 / 0" not in log.read_text() + (data_dir / "postgres/log.1").read_text()
        assert log.stat().st_size + (data_dir / "postgres/log.1").stat().st_size < 3 * 2000
        assert {stat.S_IMODE(each.stat().st_mode) for each in data_dir.glob("postgres/log*")} == {0o600}
        assert sorted(each.name for each in data_dir.glob("postgres/log*")) == ["log", "log.1"]


def test_other_users_cannot_enter_its_folder_even_in_an_open_data_folder(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    start_postgres(data_dir).stop()
    home = (data_dir / "postgres").stat()
    assert stat.S_IMODE(home.st_mode) == 0o700
    with running(data_dir) as server:
        assert ask(server, "SHOW unix_socket_permissions") == "0700"
        assert stat.S_IMODE((data_dir / "postgres/.s.PGSQL.5432").stat().st_mode) == 0o700
    assert home.st_uid == os.geteuid()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755


def test_a_folder_whose_path_is_too_long_for_a_socket(data_dir: Path) -> None:
    folder = data_dir / ("long" * 30)
    with running(folder) as server:
        assert ask(server, "SELECT 42") == 42
        shutil.rmtree(embedded_url(folder).split("host=")[1].split("&")[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run it as an ordinary user here")
def test_an_ordinary_user_runs_it(data_dir: Path, program: Callable[[str], str]) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    # The capability is for Python alone, which may lie below /root.
    user = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    command = [program("setpriv"), *user, *capability, sys.executable, "-c", USE, str(data_dir / "data")]
    root = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.split() == ["42", "0"], done.stderr


def test_files_of_another_version_are_refused(data_dir: Path) -> None:
    cluster = data_dir / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(DatabaseUnavailable, match=r"PostgreSQL 9 created.*glionode backup OUT.*glionode restore OUT"):
        start_postgres(data_dir)


def test_an_interrupted_first_start_is_repeated(data_dir: Path) -> None:
    part = data_dir / "postgres" / "cluster.part"
    part.mkdir(parents=True)
    (part / "PG_VERSION").write_text("18\n")
    with running(data_dir) as server:
        assert ask(server, "SELECT 42") == 42


def test_damaged_files_are_reported_with_the_log(data_dir: Path) -> None:
    start_postgres(data_dir).stop()
    (data_dir / "postgres/cluster/global/pg_control").unlink()
    with pytest.raises(DatabaseUnavailable, match=r"postgres/log says why"):
        start_postgres(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for the database")
def test_root_without_setpriv_is_told_what_to_do(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(DatabaseUnavailable, match="setpriv"):
        start_postgres(data_dir)
