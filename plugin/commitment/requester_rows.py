"""What destinations were asked to commit to: columns of the outbox, and a row for each object and transaction.

A late report on an earlier transaction therefore counts, a second one does not. Knows the database, not the network.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from plugin.database.audit_log import Audited, Peer
from plugin.delivery.deliverer import pause_after
from plugin.dimse.commitment_messages import CommitmentReport, Reference
from plugin.jobs import outbox
from plugin.jobs.outbox import OutboxState
from plugin.settings.sections import DeliverySettings

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Unasked:
    """An object that its destination is to be asked about now."""

    sop_class_uid: str
    sop_instance_uid: str
    asks: int
    """How often asking failed since it last did not."""

    @property
    def reference(self) -> Reference:
        """As a message names it."""
        return Reference(self.sop_class_uid, self.sop_instance_uid)


def due(connection: Connection, destination: str, limit: int) -> tuple[Unasked, ...]:
    """What a destination is to be asked about now, for the first time or again, the longest due first."""
    with connection.cursor(row_factory=class_row(Unasked)) as cursor:
        cursor.execute(
            "SELECT sop_class_uid, sop_instance_uid, asks FROM glionode_outbox "
            "WHERE destination = %s AND state = 'sent' AND ask_at <= now() AND sop_class_uid IS NOT NULL "
            "ORDER BY ask_at, sop_instance_uid LIMIT %s",
            (destination, limit),
        )
        return tuple(cursor.fetchall())


def give_up_old(connection: Connection, destination: str, give_up_after_h: float) -> int:
    """Leave alone what was to be sent so long ago, was asked about and never committed to. Returns how many objects."""
    error = f"it stored the object and did not commit to it within {give_up_after_h:g} h"
    with connection.transaction():
        rows = connection.execute(
            "UPDATE glionode_outbox o SET state = 'dead', ask_at = NULL, last_error = %s WHERE destination = %s "
            "AND state = 'sent' AND ask_at <= now() AND (asks > 0 OR EXISTS (SELECT 1 FROM glionode_commitments c "
            "WHERE c.sop_instance_uid = o.sop_instance_uid AND c.destination = o.destination)) "
            "AND coalesce(retried_at, created_at) < now() - make_interval(secs => %s) RETURNING sop_instance_uid",
            (error, destination, give_up_after_h * 3600),
        ).fetchall()
        for (uid,) in rows:
            connection.execute(
                "DELETE FROM glionode_commitments WHERE sop_instance_uid = %s AND destination = %s", (uid, destination)
            )
            outbox.record_in_audit(connection, Audited.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    return len(rows)


def begin(connection: Connection, destination: str, transaction: str, uids: Iterable[str], again_in_s: float) -> None:
    """Write down, before it is asked, what will be asked in a transaction, and when to ask again without a report."""
    with connection.transaction():
        for uid in uids:
            connection.execute(
                "INSERT INTO glionode_commitments (transaction_uid, sop_instance_uid, destination) VALUES (%s, %s, %s)",
                (transaction, uid, destination),
            )
            _next_ask(connection, destination, uid, again_in_s)


def record_asked(connection: Connection, destination: str, uids: Iterable[str]) -> None:
    """The destination has taken the request."""
    connection.execute(
        "UPDATE glionode_outbox SET asks = 0 WHERE destination = %s AND sop_instance_uid = ANY(%s)",
        (destination, list(uids)),
    )


def record_not_asked(
    connection: Connection, destination: str, unasked: Iterable[Unasked], error: str, settings: DeliverySettings
) -> None:
    """The destination could not be asked, or has refused; it is asked again after a pause that grows."""
    with connection.transaction():
        for each in unasked:
            connection.execute(
                "UPDATE glionode_outbox SET asks = asks + 1, last_error = %s "
                "WHERE destination = %s AND sop_instance_uid = %s AND state = 'sent' AND ask_at IS NOT NULL",
                (f"asked for commitment: {error}", destination, each.sop_instance_uid),
            )
            pause = pause_after(each.asks + 1, settings, random.uniform(-1, 1))
            _next_ask(connection, destination, each.sop_instance_uid, pause)


def is_waiting(connection: Connection, transaction: str) -> bool:
    """Whether a report on some object of a transaction is still to come."""
    row = connection.execute(
        "SELECT 1 FROM glionode_commitments WHERE transaction_uid = %s LIMIT 1", (transaction,)
    ).fetchone()
    return row is not None


def apply_report(
    connection: Connection, report: CommitmentReport, reporter: Peer, settings: DeliverySettings
) -> tuple[int, int]:
    """Write down a report, in the caller's transaction. Returns how many objects it commits to, and how many not.

    Whatever it says of objects that were not asked about in its transaction, or were answered for, changes nothing.
    An object that is not committed to is sent again.
    """
    committed = 0
    for reference in report.committed:
        uid = reference.sop_instance_uid
        destination = _answered(connection, report.transaction_uid, uid)
        if destination is None:
            continue
        done = connection.execute(
            "UPDATE glionode_outbox SET state = 'committed', committed_at = now(), ask_at = NULL, asks = 0, "
            "last_error = NULL WHERE sop_instance_uid = %s AND destination = %s AND state = 'sent'",
            (uid, destination),
        )
        if done.rowcount:
            committed += 1
            detail = f"{uid} to {destination}, transaction {report.transaction_uid}"
            outbox.record_in_audit(connection, Audited.COMMITTED, destination, uid, detail, reporter)
    failed = sum(_apply_failure(connection, report.transaction_uid, *each, settings) for each in report.failed)
    return committed, failed


def _apply_failure(
    connection: Connection, transaction: str, reference: Reference, reason: int, settings: DeliverySettings
) -> bool:
    uid = reference.sop_instance_uid
    destination = _answered(connection, transaction, uid)
    if destination is None:
        return False
    row = connection.execute(
        "SELECT attempts, coalesce(retried_at, created_at) < now() - make_interval(secs => %s) FROM glionode_outbox "
        "WHERE sop_instance_uid = %s AND destination = %s AND state = 'sent' FOR UPDATE",
        (settings.give_up_after_h * 3600, uid, destination),
    ).fetchone()
    if row is None:
        return False
    attempts, too_old = row
    pause = pause_after(max(attempts, 1), settings, random.uniform(-1, 1))
    error = f"it stored the object and does not commit to it (reason 0x{reason:04X})"
    connection.execute(
        "UPDATE glionode_outbox SET state = %s, ask_at = NULL, last_error = %s, "
        "next_try = now() + make_interval(secs => %s) WHERE sop_instance_uid = %s AND destination = %s",
        (OutboxState.DEAD if too_old else OutboxState.FAILED, error, pause, uid, destination),
    )
    if too_old:
        outbox.record_in_audit(connection, Audited.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    return True


def _answered(connection: Connection, transaction: str, uid: str) -> str | None:
    """Forget that an object waits for reports; returns its destination, None where none was waited for."""
    row = connection.execute(
        "SELECT destination FROM glionode_commitments WHERE transaction_uid = %s AND sop_instance_uid = %s",
        (transaction, uid),
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "DELETE FROM glionode_commitments WHERE sop_instance_uid = %s AND destination = %s", (uid, row[0])
    )
    return str(row[0])


def _next_ask(connection: Connection, destination: str, uid: str, in_s: float) -> None:
    connection.execute(
        "UPDATE glionode_outbox SET ask_at = now() + make_interval(secs => %s) "
        "WHERE destination = %s AND sop_instance_uid = %s AND state = 'sent' AND ask_at IS NOT NULL",
        (in_s, destination, uid),
    )
