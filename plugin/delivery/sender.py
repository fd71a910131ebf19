"""What all ways of sending have in common: an object goes out, and then the peer has it or there is a reason."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from plugin.database.audit_log import Peer
from plugin.jobs.outbox import OutboxEntry


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An object that is due, with what its file says of itself."""

    entry: OutboxEntry
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The peer said that it stored the object."""

    remark: str | None = None
    """What else it said; None where that was all."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The peer did not store the object."""

    why: str


Outcome = Sent | NotSent


class Sender(Protocol):
    """A way to a destination."""

    @property
    def peer(self) -> Peer:
        """What it is called in the audit."""

    def send(self, objects: Sequence[Outgoing]) -> Generator[tuple[Outgoing, Outcome], None, None]:
        """Send objects; gives what became of each, as soon as the peer has answered for it.

        To close the generator is to end the connection in order. Raises PeerFailed, and whatever was not given by then
        may be there or not.
        """

    def echo(self) -> str:
        """Ask whether the peer is there; returns what it answers, a clause. Raises PeerFailed."""
