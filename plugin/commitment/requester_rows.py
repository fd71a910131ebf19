"""The database rows of requested commitments: columns of the outbox, and a row for each object and transaction.

So a late report on an earlier transaction counts, and a second report on the same one does not.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg.rows import class_row

from plugin.database.audit_log import AuditEvent, Peer
from plugin.database.pool import Connection
from plugin.delivery.deliverer import retry_pause_s
from plugin.dimse.commitment_messages import CommitmentReport, FailedReference, Reference
from plugin.dimse.response_status import NotCommitted, commitment_failure_text, not_committed
from plugin.jobs import outbox
from plugin.jobs.outbox import OutboxState
from plugin.settings.sections import DeliverySettings

_OTHER_CLASS = 0x0119
"""Class-instance conflict: what a commitment to an instance under another SOP class amounts to."""


@dataclass(frozen=True, slots=True)
class UncommittedObject:
    """An object whose storage commitment has to be requested from a destination."""

    sop_class_uid: str
    sop_instance_uid: str
    asks: int
    """How many requests have failed since the last one that did not."""

    @property
    def reference(self) -> Reference:
        """The instance, as a message names it."""
        return Reference(self.sop_class_uid, self.sop_instance_uid)


def find_due(connection: Connection, destination: str, limit: int) -> tuple[UncommittedObject, ...]:
    """Return the objects to request commitment to now, for the first time or again, the longest due first."""
    with connection.cursor(row_factory=class_row(UncommittedObject)) as cursor:
        cursor.execute(
            "SELECT sop_class_uid, sop_instance_uid, asks FROM glionode_outbox "
            "WHERE destination = %s AND state = 'sent' AND ask_at <= now() AND sop_class_uid IS NOT NULL "
            "ORDER BY ask_at, sop_instance_uid LIMIT %s",
            (destination, limit),
        )
        return tuple(cursor.fetchall())


def give_up_old(connection: Connection, destination: str, give_up_after_h: float) -> int:
    """Give up objects to which a destination has not committed in this time; return their number."""
    error = f"the destination stored the object and did not commit to it within {give_up_after_h:g} h"
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
            outbox.audit_delivery(connection, AuditEvent.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    return len(rows)


def record_request(
    connection: Connection, destination: str, transaction: str, uids: Iterable[str], again_in_s: float
) -> None:
    """Record the objects of a transaction, before its request is sent, and when to request again without a report."""
    with connection.transaction():
        for uid in uids:
            connection.execute(
                "INSERT INTO glionode_commitments (transaction_uid, sop_instance_uid, destination) VALUES (%s, %s, %s)",
                (transaction, uid, destination),
            )
            _schedule_request(connection, destination, uid, again_in_s)


def record_accepted(connection: Connection, destination: str, uids: Iterable[str]) -> None:
    """Record that the destination accepted the request."""
    connection.execute(
        "UPDATE glionode_outbox SET asks = 0 WHERE destination = %s AND sop_instance_uid = ANY(%s)",
        (destination, list(uids)),
    )


def record_failed_request(
    connection: Connection,
    destination: str,
    objects: Iterable[UncommittedObject],
    error: str,
    settings: DeliverySettings,
) -> None:
    """Record that a request failed or was refused, and schedule the next one after a pause that grows."""
    with connection.transaction():
        for each in objects:
            connection.execute(
                "UPDATE glionode_outbox SET asks = asks + 1, last_error = %s "
                "WHERE destination = %s AND sop_instance_uid = %s AND state = 'sent' AND ask_at IS NOT NULL",
                (f"storage commitment request: {error}", destination, each.sop_instance_uid),
            )
            pause = retry_pause_s(each.asks + 1, settings, random.uniform(-1, 1))
            _schedule_request(connection, destination, each.sop_instance_uid, pause)


def awaits_report(connection: Connection, transaction: str) -> bool:
    """Return whether a report on any object of a transaction is awaited."""
    row = connection.execute(
        "SELECT 1 FROM glionode_commitments WHERE transaction_uid = %s LIMIT 1", (transaction,)
    ).fetchone()
    return row is not None


def apply_report(
    connection: Connection, report: CommitmentReport, reporter: Peer, settings: DeliverySettings
) -> tuple[int, int]:
    """Record a report within the caller's transaction; return how many objects are committed, and how many are not.

    What it says of objects that are not in its transaction, or were reported on before, changes nothing. What follows
    from a failure is said by `plugin.dimse.response_status`; an object of both lists is not committed to.
    """
    other_class = [FailedReference(each, _OTHER_CLASS) for each in report.committed if _is_other(connection, each)]
    failed = sum(
        _apply_failure(connection, report.transaction_uid, each, settings) for each in (*report.failed, *other_class)
    )
    committed = 0
    for reference in report.committed:
        uid = reference.sop_instance_uid
        destination = _close_request(connection, report.transaction_uid, uid)
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
            outbox.audit_delivery(connection, AuditEvent.COMMITTED, destination, uid, detail, reporter)
    return committed, failed


def _is_other(connection: Connection, reference: Reference) -> bool:
    """Return whether a peer speaks of an instance under another SOP class than that which it was sent under."""
    row = connection.execute(
        "SELECT 1 FROM glionode_outbox WHERE sop_instance_uid = %s AND sop_class_uid <> %s",
        (reference.sop_instance_uid, reference.sop_class_uid),
    ).fetchone()
    return row is not None


def _apply_failure(
    connection: Connection, transaction: str, failed: FailedReference, settings: DeliverySettings
) -> bool:
    """Return whether the object was awaiting a report."""
    uid = failed.reference.sop_instance_uid
    destination = _close_request(connection, transaction, uid)
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
    consequence, _ = not_committed(failed.reason)
    error = commitment_failure_text(failed.reason)
    if too_old or consequence is NotCommitted.GIVE_UP:
        _set_state(connection, destination, uid, OutboxState.DEAD, error)
        outbox.audit_delivery(connection, AuditEvent.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    elif consequence is NotCommitted.ASK_AGAIN:
        connection.execute(
            "UPDATE glionode_outbox SET last_error = %s WHERE sop_instance_uid = %s AND destination = %s",
            (error, uid, destination),
        )
        _schedule_request(connection, destination, uid, settings.retry_longest_s)
    else:
        pause = retry_pause_s(max(attempts, 1), settings, random.uniform(-1, 1))
        _set_state(connection, destination, uid, OutboxState.FAILED, error, pause)
    return True


def _set_state(
    connection: Connection, destination: str, uid: str, state: OutboxState, error: str, again_in_s: float = 0.0
) -> None:
    connection.execute(
        "UPDATE glionode_outbox SET state = %s, ask_at = NULL, last_error = %s, "
        "next_try = now() + make_interval(secs => %s) WHERE sop_instance_uid = %s AND destination = %s",
        (state, error, again_in_s, uid, destination),
    )


def _close_request(connection: Connection, transaction: str, uid: str) -> str | None:
    """Delete the open transactions of an object; return its destination, None if this transaction was not open."""
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


def _schedule_request(connection: Connection, destination: str, uid: str, in_s: float) -> None:
    connection.execute(
        "UPDATE glionode_outbox SET ask_at = now() + make_interval(secs => %s) "
        "WHERE destination = %s AND sop_instance_uid = %s AND state = 'sent' AND ask_at IS NOT NULL",
        (in_s, destination, uid),
    )
