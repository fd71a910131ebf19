"""One node per data folder, one archive per database: locks that go with the process, and a note of who it is."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from pipeline.atomic_write import write_file
from pipeline.errors import SettingsWrong

_LOCK, _NOTE = "serve.lock", "serve.json"
_PATIENCE_S = 2.0
"""A `status` holds the lock for an instant; this is not a second node."""
_ARCHIVE_LOCK = 0x676C6961  # "glia"
_ARCHIVE_PATIENCE_S = 2.0
"""A server takes a moment to notice that a process has ended."""
_KEEPALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that serves."""

    pid: int
    ae_title: str
    host: str
    port: int
    started_at: float
    """Seconds since 1970."""
    http_url: str = ""
    """Where its health and metrics are; empty where it does not serve them."""


@contextmanager
def node_lock(data_dir: Path) -> Iterator[None]:
    """Be the only node of this data folder. Raises SettingsWrong where another one runs."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / _LOCK).open("w") as file:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    raise SettingsWrong(
                        f"A node runs on {data_dir} already; `glionode status` shows it. Give each node its own "
                        "storage.data_dir."
                    ) from exc
                time.sleep(0.05)
        try:
            yield
        finally:
            (data_dir / _NOTE).unlink(missing_ok=True)


@contextmanager
def archive_lock(url: str) -> Iterator[None]:
    """Be the only process that receives, of all on whatever hosts that share a database.

    Workers ask one archive for the images of a job; of a second one they would find none. Raises SettingsWrong.
    """
    with psycopg.connect(url, autocommit=True, application_name="glionode listen") as connection:
        for name, seconds_or_count in _KEEPALIVE.items():  # the server notices within half a minute that a host is gone
            connection.execute("SELECT set_config(%s, %s, false)", (name, str(seconds_or_count)))
        deadline = time.monotonic() + _ARCHIVE_PATIENCE_S
        while not _locked(connection):
            if time.monotonic() > deadline:
                raise SettingsWrong(
                    "Another `glionode listen` or `glionode serve` receives with this database. Give each a database "
                    "of its own, or end the other one."
                )
            time.sleep(0.2)
        yield


def _locked(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_ARCHIVE_LOCK,)).fetchone()
    return bool(row and row[0])


def announce(data_dir: Path, node: RunningNode) -> None:
    """Note where the node listens, for other processes. For the holder of the lock."""
    # Not durable: the note is about a running process, and the next one writes its own.
    write_file(data_dir / _NOTE, json.dumps(asdict(node)), durable=False)


def running_node(data_dir: Path) -> RunningNode | None:
    """The node that serves this data folder and is ready; None where there is none.

    Raises SettingsWrong where the folder is another user's, so that nothing can be said.
    """
    try:
        with (data_dir / _LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except PermissionError as exc:
        raise SettingsWrong(f"{data_dir} belongs to another user; ask as the user that the node runs as.") from exc
    except OSError:
        return None
    else:
        return None
    try:
        return RunningNode(**json.loads((data_dir / _NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
