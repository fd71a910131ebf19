"""What the node does after each status of a C-STORE response and each failure reason of a commitment report.

One table for C-STORE and STOW-RS, which use the same numbers (PS3.4 table B.2-1, PS3.7 9.1.1.1.9 and annex C, PS3.18
table 10.5.3-1), and one for storage commitment (PS3.3 C.14.1.1).
"""

from dataclasses import dataclass
from enum import Enum, auto


class Consequence(Enum):
    """What a status means for the object that was sent."""

    STORED = auto()
    STORED_WITH_WARNING = auto()
    CLAIMED = auto()
    """The peer may have the object, and does not say that it stored this one: ask it."""
    SEND_AGAIN = auto()
    """The peer did not store it for a reason that may pass: send it again later."""
    GIVE_UP = auto()
    """The same bytes will be refused for the same reason; a person has to act."""


@dataclass(frozen=True, slots=True)
class StatusMeaning:
    """A status, or a range of them, with its consequence and a clause that explains it."""

    first: int
    last: int
    consequence: Consequence
    text: str


def _one(status: int, consequence: Consequence, text: str) -> StatusMeaning:
    return StatusMeaning(status, status, consequence, text)


_STORE = (
    _one(0x0000, Consequence.STORED, "stored"),
    _one(0xB000, Consequence.STORED_WITH_WARNING, "it changed elements of the data set"),
    _one(0xB006, Consequence.STORED_WITH_WARNING, "it discarded elements of the data set"),
    _one(0xB007, Consequence.STORED_WITH_WARNING, "it finds that the data set does not match its SOP class"),
    _one(0x0111, Consequence.CLAIMED, "it says that it has an object of this UID"),
    # Warnings of other services, which say nothing about storing.
    _one(0x0001, Consequence.CLAIMED, "a warning that is not defined for storing"),
    _one(0x0107, Consequence.CLAIMED, "a warning that is not defined for storing"),
    _one(0x0116, Consequence.CLAIMED, "a warning that is not defined for storing"),
    StatusMeaning(0xB000, 0xBFFF, Consequence.CLAIMED, "a warning that is not defined for storing"),
    _one(0x0110, Consequence.SEND_AGAIN, "processing failure"),
    _one(0x0124, Consequence.SEND_AGAIN, "not authorised"),
    _one(0x0210, Consequence.SEND_AGAIN, "duplicate invocation"),
    _one(0x0213, Consequence.SEND_AGAIN, "resource limitation"),
    StatusMeaning(0xA700, 0xA7FF, Consequence.SEND_AGAIN, "out of resources"),
    _one(0x0105, Consequence.GIVE_UP, "no such attribute"),
    _one(0x0106, Consequence.GIVE_UP, "invalid attribute value"),
    _one(0x0115, Consequence.GIVE_UP, "invalid argument"),
    _one(0x0117, Consequence.GIVE_UP, "invalid SOP instance"),
    _one(0x0118, Consequence.GIVE_UP, "no such SOP class"),
    _one(0x0119, Consequence.GIVE_UP, "class-instance conflict: it has this UID under another SOP class"),
    _one(0x0120, Consequence.GIVE_UP, "missing attribute"),
    _one(0x0121, Consequence.GIVE_UP, "missing attribute value"),
    _one(0x0122, Consequence.GIVE_UP, "SOP class not supported"),
    _one(0x0211, Consequence.GIVE_UP, "unrecognised operation"),
    _one(0x0212, Consequence.GIVE_UP, "mistyped argument"),
    StatusMeaning(0xA800, 0xA8FF, Consequence.GIVE_UP, "SOP class not supported"),
    StatusMeaning(0xA900, 0xA9FF, Consequence.GIVE_UP, "the data set does not match its SOP class"),
    _one(0xC122, Consequence.GIVE_UP, "transfer syntax not supported"),
    StatusMeaning(0xC000, 0xCFFF, Consequence.GIVE_UP, "it cannot understand the data set"),
)
_UNKNOWN = StatusMeaning(0, 0xFFFF, Consequence.SEND_AGAIN, "")


def store_meaning(status: int) -> StatusMeaning:
    """Return the meaning of a C-STORE status or of a failure reason of STOW-RS; one that is not known may pass."""
    return next((each for each in _STORE if each.first <= status <= each.last), _UNKNOWN)


def explained(status: int) -> str:
    """Return a status that ends a delivery, with its meaning and what to do, for the end of a sentence."""
    return (
        f"0x{status:04X} ({store_meaning(status).text}), which another attempt does not change; see its log, and run "
        "`glionode retry --dead` once it takes such objects"
    )


class NotCommitted(Enum):
    """What follows where a peer does not commit to an object that it said it stored."""

    SEND_AGAIN = auto()
    ASK_AGAIN = auto()
    """It has the object and cannot commit at the moment, or takes the request for an earlier one."""
    GIVE_UP = auto()


_COMMITMENT = {
    0x0110: (NotCommitted.SEND_AGAIN, ""),
    0x0112: (NotCommitted.SEND_AGAIN, ""),
    0x0119: (NotCommitted.GIVE_UP, "it has this UID under another SOP class"),
    0x0122: (NotCommitted.GIVE_UP, "it does not commit to objects of this SOP class"),
    0x0131: (NotCommitted.ASK_AGAIN, "it takes the transaction for another one"),
    0x0213: (NotCommitted.ASK_AGAIN, "resource limitation"),
}


def not_committed(reason: int) -> tuple[NotCommitted, str]:
    """Return what follows from a failure reason of a commitment report, and its meaning where it is worth a word."""
    return _COMMITMENT.get(reason, (NotCommitted.SEND_AGAIN, ""))


def commitment_failure_text(reason: int) -> str:
    """Return why an object is not delivered yet, as a clause."""
    meaning = not_committed(reason)[1]
    return (
        f"the destination stored the object and does not commit to it (reason 0x{reason:04X}"
        f"{f': {meaning}' if meaning else ''})"
    )
