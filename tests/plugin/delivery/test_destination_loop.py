"""Two deliverers of one destination: one works, and what becomes of it when the other one takes its place."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from plugin.database import lease as leases
from plugin.database.lease import acquire
from plugin.database.pool import Database
from plugin.delivery.deliverer import Deliverer
from plugin.delivery.destination_loop import lease_name, run_exclusively
from plugin.settings.destinations import DestinationSettings
from tests.support.delivery import QUICK, put_object
from tests.support.node import query, wait_until
from tests.support.stand_in_segmenter import OUTPUT_CLASSES


class SlowPacs:
    """A C-STORE SCP that answers to the first object when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.answers = threading.Event()
        ae = AE("PACS")
        for sop_class in OUTPUT_CLASSES:
            ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert self._server is not None
        self.destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=self._server.server_address[1]
        )

    def _store(self, event: Any) -> int:
        self.begun.append(str(event.request.AffectedSOPInstanceUID))
        self.answers.wait(30)
        return 0x0000

    def stop(self) -> None:
        self.answers.set()
        assert self._server is not None
        self._server.shutdown()


@pytest.fixture
def slow_pacs() -> Iterator[SlowPacs]:
    made = SlowPacs()
    yield made
    made.stop()


def test_a_deliverer_that_lost_its_lease_ends_what_it_sends_and_sends_no_more(
    database: Database, tmp_path: Path, slow_pacs: SlowPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"RENEW_EVERY_S": 0.02, "_LOOK_S": 0.01}.items():
        monkeypatch.setattr(leases, name, seconds)
    for _ in range(3):
        put_object(database, tmp_path, slow_pacs.destination)
    stop = threading.Event()
    deliverer = Deliverer(database.url, slow_pacs.destination, "NODE", QUICK)
    thread = threading.Thread(target=deliverer.run, args=(stop,), daemon=True)
    thread.start()
    wait_until(lambda: slow_pacs.begun, "the first object is on its way")
    with psycopg.connect(database.url, autocommit=True) as standby:

        def take_over() -> object:
            query(database, "UPDATE glionode_leases SET expires_at = now() - interval '1 s'")
            return acquire(standby, lease_name("deliver", "pacs"), threading.Event())

        wait_until(take_over, "the standby has the lease")
        # It is told before the PACS answers, and connects to the database again, where it waits for the lease.
        waiting = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_advisory_unlock_shared%%' AND pid <> %s"
        wait_until(
            lambda: query(database, waiting, query(database, "SELECT pg_backend_pid()")[0][0]), "the first one waits"
        )
        slow_pacs.answers.set()
        assert len(slow_pacs.begun) == 1
        assert query(database, "SELECT DISTINCT attempts FROM glionode_outbox") == [(0,)], "it records nothing"
    stop.set()
    thread.join()


def test_what_a_deliverer_breaks_off_is_charged_to_nobody(
    database: Database, tmp_path: Path, slow_pacs: SlowPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"RENEW_EVERY_S": 0.02, "_LOOK_S": 0.01}.items():
        monkeypatch.setattr(leases, name, seconds)
    put_object(database, tmp_path, slow_pacs.destination)
    stop = threading.Event()
    thread = threading.Thread(
        target=Deliverer(database.url, slow_pacs.destination, "NODE", QUICK).run, args=(stop,), daemon=True
    )
    thread.start()
    wait_until(lambda: slow_pacs.begun, "the object is on its way")
    # Another one has the lease, and the session of this one still works.
    query(database, "UPDATE glionode_leases SET owner = 'elsewhere', session_pid = 0")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_advisory_unlock_shared%%' AND pid <> %s"
    wait_until(lambda: query(database, waiting, query(database, "SELECT pg_backend_pid()")[0][0]), "it waits")
    assert query(database, "SELECT state, attempts, alone FROM glionode_outbox") == [("queued", 0, False)]
    assert query(database, "SELECT * FROM glionode_pauses") == []
    stop.set()
    thread.join()


def test_a_deliverer_of_the_version_before_leases_is_waited_for(database: Database) -> None:
    stop, works = threading.Event(), threading.Event()
    with psycopg.connect(database.url, autocommit=True) as old:
        key = ("glionode-deliver", "pacs")
        old.execute("SELECT pg_advisory_lock(hashtext(%s), hashtext(%s))", key)
        thread = threading.Thread(
            target=run_exclusively,
            args=(database.url, "deliver", "pacs", lambda _, ends: works.set() or ends.wait(), stop),
            daemon=True,
        )
        thread.start()
        asked = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%try_advisory_lock_shared%%' AND pid <> %s"
        wait_until(
            lambda: query(database, asked, query(database, "SELECT pg_backend_pid()")[0][0]), "the new one asked"
        )
        assert not works.is_set()
        old.execute("SELECT pg_advisory_unlock(hashtext(%s), hashtext(%s))", key)
        wait_until(works.is_set, "the new one works")
        again = old.execute("SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", key).fetchone()
        assert again == (False,), "the old one would wait now"
    stop.set()
    thread.join()
