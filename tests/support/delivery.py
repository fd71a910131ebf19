"""Deliver objects of the outbox to a peer, with short pauses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.package import IntendedUse
from plugin.commitment.requester import CommitmentRequester
from plugin.database.pool import Database
from plugin.delivery.deliverer import Deliverer
from plugin.jobs import outbox
from plugin.settings.destinations import AnyDestination, DestinationSettings
from plugin.settings.sections import DeliverySettings
from tests.support.node import insert_job, make_instance, new_study_uid, query, write_instance

QUICK = DeliverySettings(retry_first_s=0.05, retry_longest_s=0.1, timeout_s=5)
PutObject = Callable[..., str]


def put_object(
    database: Database,
    folder: Path,
    destination: AnyDestination,
    sop_class: str = "1.2.840.10008.5.1.4.1.1.66.4",
    age_h: int = 0,
    size_bytes: int = 0,
) -> str:
    """Put a small object into the outbox, twice, as a repeated job does; return its SOP instance UID.

    All objects in the outbox become `age_h` hours old.
    """
    instance = make_instance(new_study_uid(), sop_class=sop_class)
    if size_bytes:
        instance.PixelData = bytes(size_bytes)
    uid = str(instance.SOPInstanceUID)
    insert_job(database, uid, "1")
    objects = [outbox.OutgoingObject(uid, write_instance(instance, folder))]
    with database.pool.connection() as connection:
        for _ in range(2):
            outbox.put(connection, uid, objects, (destination,), IntendedUse.RESEARCH)
    query(database, "UPDATE glionode_outbox SET created_at = now() - make_interval(hours => %s)", age_h)
    return uid


@contextmanager
def delivering(database: Database, destination: AnyDestination, settings: DeliverySettings = QUICK) -> Iterator[None]:
    """Send to a destination while the block runs, and request storage commitment where it is configured."""
    stop = threading.Event()
    loops = [Deliverer(database.url, destination, "NODE", settings).run]
    if isinstance(destination, DestinationSettings) and destination.storage_commitment:
        loops.append(CommitmentRequester(database.url, destination, "NODE", QUICK).run)
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
