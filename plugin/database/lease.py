"""Leases: what one process at a time may do, among all processes on all hosts that share a database.

A lease is a row with its owner and the moment at which it runs out, by the database's clock. The owner renews it every
few seconds; when it has not done so for `LEASE_S`, another process takes it over. No session holds it, so that no
session of a host that vanished can keep it, and neither can a process that stands still.

The owner must have stopped before another begins:

- It counts by its own clock, from before it asked for the latest renewal, and stops after `OWNER_STOPS_S`, which is
  less: whatever became of the database, of the network or of its process meanwhile. A process that stood still finds
  its lease over at its next look at the clock, and looks before each object that it sends.
- What it was sending then is broken off, see `Lease.breaks_off`.
- Whoever takes over ends the old owner's session first, so that the old owner records nothing any more.
"""

import asyncio
import logging
import math
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg_pool import ConnectionPool

from plugin.database.pool import Connection

_LOG = logging.getLogger(__name__)

LEASE_S = 30.0
OWNER_STOPS_S = 20.0
RENEW_EVERY_S = 5.0
_TRY_AGAIN_S = 0.5
_LOOK_S = 0.1
_GIVE_BACK_S = 2.0
"""Otherwise it runs out."""


_CURRENT: ContextVar["Lease | None"] = ContextVar("current_lease", default=None)


class Lease(threading.Event):
    """A lease that this process owns. As an event, it is set once its owner must stop.

    The owner's loop asks often whether it is set, and so shows that it turns.
    """

    def __init__(self, name: str, owner: str, asked_at: float, stop: threading.Event, until_taken: bool) -> None:
        super().__init__()
        self.name = name
        self.owner = owner
        self._stop = stop
        self._until_taken = until_taken
        self._ends_at = asked_at + OWNER_STOPS_S
        self._turned_at = time.monotonic()
        self._connections: WeakSet[socket.socket] = WeakSet()

    def is_set(self) -> bool:
        """Return whether the owner must stop, because the lease is over or the process is to end."""
        self._turned_at = time.monotonic()
        return super().is_set() or self._stop.is_set() or self.seconds_left <= 0

    @property
    def is_over(self) -> bool:
        """Whether another process may have the lease; not so where this one is only to end."""
        return super().is_set() or self.seconds_left <= 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so many seconds, less if the process is to end. Return whether the owner must stop."""
        self._stop.wait(timeout)
        return self.is_set()

    @property
    def seconds_left(self) -> float:
        """For how long the owner may go on if the lease is not renewed."""
        return math.inf if self._until_taken else self._ends_at - time.monotonic()

    @property
    def seconds_since_turn(self) -> float:
        """Seconds since the owner's loop last asked whether it must stop."""
        return time.monotonic() - self._turned_at

    def breaks_off(self, connection: socket.socket) -> None:
        """Have a connection of the owner to somebody else ended when the lease is over."""
        self._connections.add(connection)
        if super().is_set():
            _cut(connection)

    def renewed(self, asked_at: float) -> None:
        """Go on: the database has renewed the lease, as it was asked at this time of the monotonic clock."""
        self._ends_at = asked_at + OWNER_STOPS_S

    def lose(self) -> None:
        """Set the lease, because it is over, and break off what is being sent."""
        self.set()
        for connection in list(self._connections):
            _cut(connection)


def current_lease() -> Lease | None:
    """Return the lease under which this thread works; None if it works under none."""
    return _CURRENT.get()


def lease_is_over() -> bool:
    """Return whether this thread works under a lease that another process may have by now."""
    lease = current_lease()
    return lease is not None and lease.is_over


def acquire(connection: Connection, name: str, stop: threading.Event, until_taken: bool = False) -> Lease | None:
    """Take a lease that nobody owns, or whose owner has not renewed it; return None while another process has it.

    `connection` is the session in which the owner will work. With `until_taken`, the owner may go on until another has
    taken the lease over, which it learns at a renewal.
    """
    owner, asked_at = f"{_this_process()}/{uuid.uuid4().hex[:8]}", time.monotonic()
    # The database's clock was set back since: an owner that lives renews it, and one that does not has a full term.
    connection.execute(
        "UPDATE glionode_leases SET expires_at = clock_timestamp() + make_interval(secs => %(lease)s) "
        "WHERE name = %(name)s AND expires_at > clock_timestamp() + make_interval(secs => 2 * %(lease)s)",
        {"name": name, "lease": LEASE_S},
    )
    row = connection.execute(
        "SELECT owner, session_pid, session_start, expires_at < clock_timestamp() FROM glionode_leases WHERE name = %s",
        (name,),
    ).fetchone()
    before, pid, start, is_over = row or ("", 0, None, True)
    if not is_over and not _is_dead(before):
        return None
    taken = connection.execute(
        "INSERT INTO glionode_leases AS l (name, owner, session_pid, session_start, expires_at) "
        "SELECT %s, %s, pid, backend_start, clock_timestamp() + make_interval(secs => %s) "
        "FROM pg_stat_activity WHERE pid = pg_backend_pid() "
        "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, session_pid = excluded.session_pid, "
        "session_start = excluded.session_start, expires_at = excluded.expires_at, turned_at = clock_timestamp() "
        "WHERE l.owner = %s AND (l.expires_at < clock_timestamp() OR NOT %s) RETURNING owner",
        (name, owner, LEASE_S, before, is_over),
    ).fetchone()
    if taken is None:
        return None
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid = %s AND backend_start = %s AND pid <> pg_backend_pid()",
        (pid, start),
    )
    return Lease(name, owner, asked_at, stop, until_taken)


def forget_leases(pool: ConnectionPool) -> None:
    """Delete all leases, for a process that knows that it is the only one with this database."""
    with pool.connection() as connection:
        connection.execute("DELETE FROM glionode_leases")


@contextmanager
def renewing(url: str, lease: Lease, on_lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Renew a lease while the block runs, in which it is the `current_lease`, and give it back at the end.

    When it is over before, the lease is set and `on_lost` is called, from another thread.
    """
    done = threading.Event()
    before = _CURRENT.set(lease)
    thread = threading.Thread(target=lambda: asyncio.run(_renew(url, lease, done, on_lost)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        _CURRENT.reset(before)
        done.set()
        thread.join()


async def _renew(url: str, lease: Lease, done: threading.Event, on_lost: Callable[[], None]) -> None:
    renewal = _Renewal(url, lease)
    asking: asyncio.Task[bool] | None = None
    next_at = time.monotonic() + RENEW_EVERY_S
    while not done.is_set():
        if lease.seconds_left <= 0 or renewal.is_taken:
            _LOG.error("the lease %r is over: it could not be renewed, and another process may take over", lease.name)
            lease.lose()
            on_lost()
            break
        if asking is not None and asking.done():
            next_at = time.monotonic() + (RENEW_EVERY_S if asking.result() else _TRY_AGAIN_S)
            asking = None
        elif asking is None and time.monotonic() >= next_at:
            asking = asyncio.create_task(renewal.ask())
        await asyncio.sleep(_LOOK_S)
    if asking is not None:
        asking.cancel()
        await asyncio.wait([asking])
    await renewal.close(give_back=done.is_set())


@dataclass(slots=True)
class _Renewal:
    """The connection over which a lease is renewed; no request takes longer than the lease lasts."""

    url: str
    lease: Lease
    is_taken: bool = False
    _connection: psycopg.AsyncConnection[Any] | None = None

    async def ask(self) -> bool:
        """Renew the lease; return whether the database answered."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(OWNER_STOPS_S):
                is_ours = await self._execute(
                    # The row is missing where the database was restored from a backup.
                    "INSERT INTO glionode_leases AS l "
                    "(name, owner, session_pid, session_start, expires_at, turned_at) "
                    "SELECT %s, %s, pid, backend_start, clock_timestamp() + make_interval(secs => %s), "
                    "clock_timestamp() - make_interval(secs => %s) FROM pg_stat_activity WHERE pid = pg_backend_pid() "
                    "ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at, turned_at = excluded.turned_at "
                    "WHERE l.owner = excluded.owner RETURNING owner",
                    (self.lease.name, self.lease.owner, LEASE_S, self.lease.seconds_since_turn),
                )
        except (psycopg.Error, OSError, TimeoutError):
            await self._disconnect()
            return False
        if is_ours:
            self.lease.renewed(asked_at)
        self.is_taken = not is_ours
        return True

    async def close(self, give_back: bool) -> None:
        """Delete the row, where the owner has stopped and the database answers; end the connection."""
        if give_back:
            with suppress(psycopg.Error, OSError, TimeoutError):
                async with asyncio.timeout(_GIVE_BACK_S):
                    await self._execute(
                        "DELETE FROM glionode_leases WHERE name = %s AND owner = %s RETURNING owner",
                        (self.lease.name, self.lease.owner),
                    )
        await self._disconnect()

    async def _execute(self, statement: str, values: tuple[object, ...]) -> bool:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True)
        cursor = await self._connection.execute(statement, values)  # type: ignore[arg-type, unused-ignore]
        return await cursor.fetchone() is not None

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _cut(connection: socket.socket) -> None:
    """End a connection at once, without sending what its buffer holds."""
    with suppress(OSError):  # it has ended already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # that of TLS would first let plain bytes through


@cache
def _this_host() -> str:
    """Name the host until its next start, and the namespace in which process ids are unique."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not boot.exists():
        return f"{socket.gethostname()}/-"
    return f"{socket.gethostname()}/{boot.read_text().strip()[:8]}-{namespace.readlink().name}"


def _this_process() -> str:
    return f"{_this_host()}/{os.getpid()}-{_start_of(os.getpid())}"


def _start_of(pid: int) -> str:
    """Return when a process started, which tells it from a later one with its id; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]  # proc(5), starttime
    except OSError:
        return ""


def _is_dead(owner: str) -> bool:
    """Return whether an owner was a process of this host that has ended; its lease need not run out."""
    host, _, process = owner.rpartition("/")[0].rpartition("/")
    pid, _, start = process.partition("-")
    return host == _this_host() and pid.isdigit() and bool(start) and _start_of(int(pid)) != start
