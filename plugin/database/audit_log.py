"""The audit log: what was received, chosen, produced, sent and deleted, when, and by whom.

Rows are only ever added. They contain UIDs, AE titles, addresses and our own sentences, never text from a DICOM header.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from plugin.database.pool import Connection


class AuditEvent(StrEnum):
    """The kinds of audited events."""

    RECEIVED = "received"
    RECEIVED_AGAIN = "received again"
    """Instances came again with other bytes than those that are here."""
    CHOSEN = "chosen"
    PRODUCED = "produced"
    LOST = "result lost"
    """A file of a result was missing or damaged on disk; its job runs again."""
    ENDED = "ended"
    SUPERSEDED = "superseded"
    """Earlier results of a study are over, because images of it took the place of others."""
    SENT = "sent"
    COMMITTED = "committed"
    """A destination confirmed storage commitment for an object."""
    GIVEN_UP = "given up"
    NOT_REPLACED = "not replaced"
    """An object was made again with other content, and a destination keeps the one that it has under its UID."""
    NOT_SENT_AGAIN = "not sent again"
    """A new run made objects that a destination has already."""
    ORDERED = "ordered"
    """A user changed a job with a command."""
    PURGED = "purged"
    REFUSED = "refused"
    """A peer was refused; without a study."""
    HTTP = "http"
    """A peer used the HTTP server, or was refused there; without a study."""
    ADOPTED = "adopted"
    """A result on the disk was taken over into a database that did not know it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The peer of an association."""

    ae_title: str
    """The AE title that it gave; empty if that was not a valid AE title."""
    address: str


@dataclass(frozen=True, slots=True)
class AuditSubject:
    """The study, and possibly the job, that an entry is about."""

    study_instance_uid: str
    """Empty where it is about a peer alone."""
    job_key: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log."""

    at: str
    """ISO 8601 with offset."""
    what: str
    peer_ae_title: str | None
    peer_address: str | None
    detail: str


def record(
    connection: Connection,
    what: AuditEvent,
    about: AuditSubject,
    detail: str,
    peer: Peer | None = None,
    at: datetime | None = None,
) -> None:
    """Add an entry within the caller's transaction; `at` is the time of the event (None: now)."""
    connection.execute(
        "INSERT INTO glionode_audit (at, what, study_instance_uid, job_key, peer_ae_title, peer_address, detail) "
        "VALUES (coalesce(%s, now()), %s, %s, %s, %s, %s, %s)",
        (
            *(at, what, about.study_instance_uid, about.job_key),
            *((peer.ae_title, peer.address) if peer is not None else (None, None)),
            detail,
        ),
    )


def record_for_job(
    connection: Connection, what: AuditEvent, job_key: str, detail: str, peer: Peer | None = None
) -> None:
    """Add an entry about a job, if the job exists."""
    row = connection.execute("SELECT study_instance_uid FROM glionode_jobs WHERE key = %s", (job_key,)).fetchone()
    if row is not None:
        record(connection, what, AuditSubject(row[0], job_key), detail, peer)


def read_entries(connection: Connection, job_key: str, study_instance_uid: str) -> tuple[AuditEntry, ...]:
    """Return the entries about a job, and those about its study without a job, oldest first."""
    rows = connection.execute(
        "SELECT at, what, peer_ae_title, peer_address, detail FROM glionode_audit "
        "WHERE job_key = %s OR (study_instance_uid = %s AND job_key IS NULL) ORDER BY at, id",
        (job_key, study_instance_uid),
    ).fetchall()
    return tuple(AuditEntry(at.isoformat(timespec="seconds"), *rest) for at, *rest in rows)
