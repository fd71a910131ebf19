"""Bound the connections of the HTTP server: how many there are, from where, and how long each may stand still.

uvicorn limits nothing before a request is complete. Here connections are counted when they are accepted, before TLS. A
connection waits (for a TLS handshake, a request, the rest of a body that nobody reads) or works (a body is read, a
response is made or sent). Where a limit is reached, the one that has waited longest is closed in favour of a new one,
so that silent connections lock nobody out; only where all of them work is the new one closed.
"""

import asyncio
import ipaddress
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from plugin.logs import RepeatedRefusals

_LOG = logging.getLogger(__name__)

_KEPT_FOR_THIS_MACHINE = 20
"""Connections of the whole that other machines do not get: the health check of a container comes from loopback."""
_LEAST_PROGRESS_BYTES = 16384
"""What has to arrive of a body within each period of the stall timeout."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long one may stand still."""

    total: int
    per_address: int
    stall_timeout_s: float


class _Connection(socket.socket):
    """An accepted connection that tells when it is closed."""

    registry: "Connections"
    address: str
    from_here: bool
    since: float
    """When it was opened (monotonic, seconds)."""
    protocol: "BoundedProtocol | None" = None
    """None during the TLS handshake."""

    @classmethod
    def of(cls, accepted: socket.socket, address: str, own_address: str, registry: "Connections") -> "_Connection":
        """Take an accepted connection over."""
        made = cls(fileno=accepted.detach())
        made.registry, made.address, made.since = registry, address, time.monotonic()
        made.from_here = ipaddress.ip_address(address).is_loopback or address == own_address
        return made

    @property
    def waiting_since(self) -> float | None:
        """Since when it waits (monotonic, seconds); None while it works."""
        return self.since if self.protocol is None else self.protocol.waiting_since

    def is_overdue(self, stall_timeout_s: float) -> bool:
        """Return whether it stood still for too long."""
        if self.protocol is not None and self.waiting_since is None:
            return self.protocol.stands_still(stall_timeout_s)
        return time.monotonic() - (self.waiting_since or 0.0) > stall_timeout_s

    def end(self) -> None:
        """End the connection at once, whatever it has still to send."""
        with suppress(OSError):  # the peer was faster
            # Closed with a reset: otherwise the kernel keeps what a peer does not read for minutes.
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if self.protocol is None:
                self.shutdown(socket.SHUT_RDWR)  # the handshake fails by that, and closes it
        if self.protocol is not None:
            self.protocol.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self.registry.remove(self)
        super().close()


class Connections:
    """The open connections. For one thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[_Connection, None] = {}
        self._log = RepeatedRefusals(_LOG, "refused HTTP from")

    def __iter__(self) -> Iterator[_Connection]:
        return iter(tuple(self._open))

    def admit(self, accepted: socket.socket, address: str, own_address: str) -> _Connection | None:
        """Count a connection from `address` and return it, or close it and return None where all others work."""
        new = _Connection.of(accepted, address, own_address, self)
        crowd, limit = self._crowd_of(new)
        if crowd:
            victim = _longest_waiting(crowd)
            self._log.refused(address if victim is None else victim.address, f"more than {limit}")
            if victim is None:
                new.close()
                return None
            self.remove(victim)
            victim.end()
        self._open[new] = None
        return new

    def _crowd_of(self, new: _Connection) -> tuple[list[_Connection], str]:
        """Return the connections of which one has to go for a new one, if any, and the limit that is reached."""
        same = [each for each in self._open if each.address == new.address]
        if len(same) >= self.limits.per_address:
            return same, f"{self.limits.per_address} connections from one address"
        others = [each for each in self._open if not each.from_here]
        if not new.from_here and len(others) >= self.limits.total - _KEPT_FOR_THIS_MACHINE:
            return _most_of_one_address(others), f"{self.limits.total - _KEPT_FOR_THIS_MACHINE} connections"
        if len(self._open) >= self.limits.total:
            return _most_of_one_address(list(self._open)), f"{self.limits.total} connections"
        return [], ""

    def remove(self, connection: _Connection) -> None:
        """Count a connection no longer."""
        self._open.pop(connection, None)

    def end_overdue(self) -> None:
        """End the connections that stood still for too long."""
        for each in self:
            if each.is_overdue(self.limits.stall_timeout_s):
                self.remove(each)
                each.end()


def _most_of_one_address(connections: list[_Connection]) -> list[_Connection]:
    """Return the connections of the address from which most of those come that wait; all where none waits."""
    counts = Counter(each.address for each in connections if each.waiting_since is not None)
    busiest = counts.most_common(1)[0][0] if counts else ""
    return [each for each in connections if each.address == busiest] or connections


def _longest_waiting(connections: list[_Connection]) -> _Connection | None:
    waiting = [each for each in connections if each.waiting_since is not None]
    return min(waiting, key=lambda each: each.waiting_since or 0.0, default=None)


def _plain(address: str) -> str:
    """Return an address without its zone, and IPv4 as such where a dual-stack socket gives it as IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


class LimitedListener(socket.socket):
    """A listening socket whose `accept` gives the connections that `Connections` admits, for asyncio."""

    connections: Connections

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises ConnectionAbortedError, after which asyncio goes on, for one that is refused."""
        accepted, address = super().accept()
        admitted = self.connections.admit(accepted, _plain(address[0]), _plain(accepted.getsockname()[0]))
        if admitted is None:
            raise ConnectionAbortedError
        return admitted, address


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which notes what it waits for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since = time.monotonic()
        """When the last response ended, at first when the connection was opened."""
        self._mark = self._since
        """When the body or the response last made progress."""
        self._bytes = 0
        """Of a body, since then."""

    @property
    def waiting_since(self) -> float | None:
        """Since when there is no request to work on (monotonic, seconds); None if there is one."""
        return self._since if self.cycle is None or self.cycle.response_complete else None

    def stands_still(self, seconds: float) -> bool:
        """Return whether the peer sends no more of its body, or does not read the response, for so long."""
        peer_is_next = self.flow.write_paused or (self.cycle.more_body and not self.flow.read_paused)
        if not peer_is_next:
            self._mark, self._bytes = time.monotonic(), 0
        return time.monotonic() - self._mark > seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; over TLS after the handshake."""
        super().connection_made(transport)
        number = transport.get_extra_info("socket").fileno()
        for each in self.config.connections:  # type: ignore[attr-defined]
            if each.fileno() == number:
                each.protocol, self._since = self, each.since

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._bytes += len(data)
        was_waiting = self.waiting_since is not None
        super().data_received(data)
        if was_waiting or self._bytes >= _LEAST_PROGRESS_BYTES:
            self._mark, self._bytes = time.monotonic(), 0

    def resume_writing(self) -> None:
        """Go on sending: the peer has read most of what was sent."""
        self._mark = time.monotonic()
        super().resume_writing()

    def pause_writing(self) -> None:
        """Send no more until the peer has read."""
        self._mark = time.monotonic()
        super().pause_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = time.monotonic()
        super().on_response_complete()


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration with the connections that its protocols belong to."""

    def __init__(self, app: Any, connections: Connections, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, loop="asyncio", **options)
        self.connections = connections


class BoundedServer(uvicorn.Server):
    """uvicorn's server, which looks for connections that stand still."""

    config: BoundedConfig

    async def on_tick(self, counter: int) -> bool:
        """Do what is due every tenth of a second."""
        if counter % 5 == 0:
            self.config.connections.end_overdue()
        return await super().on_tick(counter)
