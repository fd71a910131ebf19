"""Who sent, what was chosen, what was produced, where it went, when: rows that are only ever added. UIDs, AE titles,
addresses and sentences of ours; never a text of a header.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


class Audited(StrEnum):
    """What is written down."""

    RECEIVED = "received"
    CHOSEN = "chosen"
    PRODUCED = "produced"
    ENDED = "ended"
    SENT = "sent"
    COMMITTED = "committed"
    """A destination committed to keeping an object."""
    GIVEN_UP = "given up"
    ORDERED = "ordered"
    """A person wanted something by the command line."""
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of an association."""

    ae_title: str
    """As it called itself; empty where that is no AE title and so not to be shown."""
    address: str


@dataclass(frozen=True, slots=True)
class About:
    """What a row is about."""

    study_instance_uid: str
    job_key: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row."""

    at: str
    """ISO 8601 with offset."""
    what: str
    peer_ae_title: str | None
    peer_address: str | None
    detail: str


def record(
    connection: Connection,
    what: Audited,
    about: About,
    detail: str,
    peer: Peer | None = None,
    at: datetime | None = None,
) -> None:
    """Add a row, in the caller's transaction; `at` is when it happened, None for now."""
    connection.execute(
        "INSERT INTO glionode_audit (at, what, study_instance_uid, job_key, peer_ae_title, peer_address, detail) "
        "VALUES (coalesce(%s, now()), %s, %s, %s, %s, %s, %s)",
        (
            *(at, what, about.study_instance_uid, about.job_key),
            *((peer.ae_title, peer.address) if peer is not None else (None, None)),
            detail,
        ),
    )


def record_of_job(connection: Connection, what: Audited, job_key: str, detail: str, peer: Peer | None = None) -> None:
    """Add a row about a job that there is."""
    row = connection.execute("SELECT study_instance_uid FROM glionode_jobs WHERE key = %s", (job_key,)).fetchone()
    if row is not None:
        record(connection, what, About(row[0], job_key), detail, peer)


def entries_of(connection: Connection, job_key: str, study_instance_uid: str) -> tuple[AuditEntry, ...]:
    """What is written down of a job, and of its study without a job, oldest first."""
    rows = connection.execute(
        "SELECT at, what, peer_ae_title, peer_address, detail FROM glionode_audit "
        "WHERE job_key = %s OR (study_instance_uid = %s AND job_key IS NULL) ORDER BY at, id",
        (job_key, study_instance_uid),
    ).fetchall()
    return tuple(AuditEntry(at.isoformat(timespec="seconds"), *rest) for at, *rest in rows)
