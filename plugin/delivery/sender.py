"""The interface of all ways to send objects to a destination."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plugin.database.audit_log import Peer
from plugin.errors import PeerFailed
from plugin.jobs.outbox import OutboxEntry


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An object to send, with what its file meta information says of it."""

    entry: OutboxEntry
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The destination said that it stored the object."""

    remark: str | None = None
    """What else it said; None where that was all."""
    warning: str = field(default="", compare=False)
    """What the destination warns of, as a clause for the log; empty where it does not."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The destination did not store the object."""

    reason: str
    final: bool = False
    """Whether sending the same bytes again would fail again, so that a person has to act."""


@dataclass(frozen=True, slots=True)
class TakenClass:
    """A SOP class of which the node sends objects, and how a destination takes them."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    """Empty where it does not take them."""


class BrokenOff(PeerFailed):
    """A destination that can be reached ended the connection, or gave no usable answer, while it got an object.

    The objects without an outcome that were not under way can be sent at once, over a new connection.
    """

    def __init__(self, reason: str, objects: Sequence[Outgoing]) -> None:
        """`objects` were under way: several where one request carries them, none where it ended between two."""
        super().__init__(reason)
        self.objects = tuple(objects)


Outcome = Sent | NotSent
Outcomes = Generator[tuple[Outgoing, Outcome], None, None]
"""The outcome of each object, as soon as it is known."""


class Sender(Protocol):
    """A way to a destination."""

    @property
    def peer(self) -> Peer:
        """The destination, as the audit log names it."""

    def send(self, objects: Sequence[Outgoing]) -> Outcomes:
        """Send objects; yield the outcome of each as soon as the destination has responded.

        Closing the generator closes the connection in order. Raises BrokenOff where the destination can be reached and
        the connection ended with an object, PeerFailed where it cannot be reached; the destination may or may not have
        stored the objects whose outcome was not yielded by then.
        """

    def echo(self) -> str:
        """Check that the destination responds; return what it says, as a clause. Raises PeerFailed."""
