"""Write the deliveries of a result into the outbox of a database that has lost them."""

from collections.abc import Iterable
from dataclasses import dataclass

from models.package import IntendedUse
from plugin.database.pool import Connection
from plugin.jobs.outbox import HELD_WHY, OutboxState, OutgoingObject
from plugin.settings.check import may_receive, refusal
from plugin.settings.destinations import AnyDestination


@dataclass(frozen=True, slots=True)
class Adoption:
    """What becomes of the deliveries of a result that the database lost."""

    deliver_to: frozenset[str]
    """The destinations to which it is sent; all others are taken to have it."""
    current: bool
    """Whether no later result of the study supersedes it, and its images are still those of the study."""
    hold: bool
    """Whether it waits until it is released."""


def adopt_deliveries(
    connection: Connection,
    job_key: str,
    objects: Iterable[OutgoingObject],
    destinations: tuple[AnyDestination, ...],
    intended_use: IntendedUse,
    choice: Adoption,
) -> dict[str, int]:
    """Add a row for each object and destination that has none. Return the number of new rows by state.

    Where storage commitment is configured, a destination is asked about the current objects that it is taken to have,
    and gets those that it does not have.
    """
    counts: dict[str, int] = {}
    for item in objects:
        for destination in destinations:
            state, why = _adopted_state(destination, intended_use, choice)
            commits = bool(getattr(destination, "storage_commitment", False))
            asks = state is OutboxState.SENT and choice.current and commits
            added = connection.execute(
                "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state, last_error, sha256, "
                "file_sha256, intended_use, sent_at, sop_class_uid, ask_at) "
                "VALUES (%(uid)s, %(destination)s, %(job)s, %(path)s, %(state)s, "
                "%(why)s, %(sha256)s, %(sha256)s, %(use)s, CASE WHEN %(state)s = 'sent' THEN now() END, %(class)s, "
                "CASE WHEN %(asks)s THEN now() END) ON CONFLICT DO NOTHING",
                {
                    **{"uid": item.sop_instance_uid, "destination": destination.name, "job": job_key, "state": state},
                    **{"path": str(item.path), "why": why, "sha256": item.sha256, "asks": asks},
                    **{"class": item.sop_class_uid if asks else None, "use": intended_use.value},
                },
            )
            if added.rowcount:
                counts[state] = counts.get(state, 0) + 1
    return counts


def _adopted_state(
    destination: AnyDestination, intended_use: IntendedUse, choice: Adoption
) -> tuple[OutboxState, str | None]:
    if not may_receive(destination, intended_use):
        return OutboxState.REFUSED, refusal(destination)
    if choice.current and choice.hold:
        return OutboxState.HELD, HELD_WHY
    if destination.name not in choice.deliver_to:
        return OutboxState.SENT, "taken to be there when the result was adopted after the loss of the database"
    if not choice.current:
        return OutboxState.WITHDRAWN, "a later result or later images of the study take its place"
    return OutboxState.QUEUED, None
