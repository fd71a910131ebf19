"""Delivery to DICOM peers: retry pauses, echo, statuses, lost connections and missing files."""

import gc
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from plugin.database.pool import Database
from plugin.delivery.deliverer import echo, retry_pause_s
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings
from tests.support.delivery import PutObject, delivering, put_object
from tests.support.node import query, wait_until

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture(autouse=True)
def restricted_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers accept only the SOP classes that they list; a listener of another test lifts that in its process."""
    monkeypatch.setattr("pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE", False)


@contextmanager
def peer(handler: Callable[[Any], int] = lambda event: 0x0000, *classes: str) -> Iterator[DestinationSettings]:
    ae = AE("PACS")
    for sop_class in classes or (Verification,):
        ae.add_supported_context(sop_class)
    handlers = [(evt.EVT_C_ECHO, handler), (evt.EVT_C_STORE, handler)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture
def put(database: Database, tmp_path: Path) -> PutObject:
    """Return a function that puts a small object into the outbox for a destination and returns its UID."""
    return partial(put_object, database, tmp_path)


def rows(database: Database) -> list[tuple[str, str | None]]:
    return query(database, "SELECT state, last_error FROM glionode_outbox ORDER BY created_at")


def test_pauses_double_up_to_the_longest() -> None:
    settings = DeliverySettings(retry_first_s=5, retry_longest_s=600)
    assert [retry_pause_s(attempts, settings, 0) for attempts in (1, 2, 3, 7, 8, 10_000)] == [5, 10, 20, 320, 600, 600]
    assert retry_pause_s(1, settings, 1) == pytest.approx(6)
    assert retry_pause_s(1, settings, -1) == pytest.approx(4)


def test_echo_succeeds_if_the_peer_responds() -> None:
    with peer() as destination:
        found = echo(destination, "NODE")
    assert (found.destination, found.answered) == ("pacs", True)


def test_echo_says_why_it_failed() -> None:
    with peer() as destination:
        pass
    found = echo(destination, "NODE", 2)
    assert not found.answered
    assert "cannot be reached" in found.message
    with peer(lambda event: 0x0122) as destination:
        found = echo(destination, "NODE")
    assert (found.answered, found.message) == (False, "it responded with status 0x0122")


def test_a_warning_status_counts_as_stored(database: Database, put: PutObject) -> None:
    with peer(lambda event: 0xB000, SEG) as destination:
        put(destination)
        with delivering(database, destination):
            wait_until(lambda: rows(database) == [("sent", "stored with warning 0xB000")], "the row says so")


def test_an_object_that_the_peer_does_not_accept_delays_no_other(database: Database, put: PutObject) -> None:
    stored: list[str] = []

    def keep(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    with peer(keep, SEG) as destination:
        put(destination, "1.2.840.10008.5.1.4.1.1.88.34")
        taken = put(destination)
        with delivering(database, destination):
            wait_until(lambda: sorted(state for state, _ in rows(database)) == ["failed", "sent"], "one of each")
    assert stored == [taken]


def test_an_object_is_given_up_after_the_set_time(database: Database, put: PutObject) -> None:
    with peer(lambda event: 0xA700, SEG) as destination:
        put(destination, age_h=73)
        with delivering(database, destination):
            wait_until(lambda: rows(database) == [("dead", "it responded with status 0xA700")], "it is dead")


def test_a_missing_file_is_given_up_at_once(database: Database, put: PutObject, tmp_path: Path) -> None:
    with peer(lambda event: 0x0000, SEG) as destination:
        uid = put(destination)
        (tmp_path / f"{uid}.dcm").unlink()
        with delivering(database, destination):
            wait_until(lambda: rows(database)[0][0] == "dead", "it is dead")


def test_after_an_abort_the_object_is_sent_again(database: Database, put: PutObject) -> None:
    calls: list[int] = []

    def abort_once(event: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            event.assoc.abort()
        return 0x0000

    with peer(abort_once, SEG) as destination:
        put(destination)
        with delivering(database, destination):
            wait_until(lambda: [state for state, _ in rows(database)] == ["sent"], "it is sent")
    assert len(calls) == 2


@contextmanager
def cutting_proxy(port: int, limits: list[int]) -> Iterator[int]:
    """Forward connections to a port of loopback, each cut after so many bytes from the client; give the own port."""

    def carry(source: socket.socket, target: socket.socket, limit: int) -> None:
        with source, target, suppress(OSError):
            carried = 0
            while carried < limit and (chunk := source.recv(min(65536, limit - carried))):
                target.sendall(chunk)
                carried += len(chunk)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                incoming, _ = server.accept()
                outgoing = socket.create_connection(("127.0.0.1", port))
                for pair in (
                    (incoming, outgoing, limits.pop(0) if limits else sys.maxsize),
                    (outgoing, incoming, sys.maxsize),
                ):
                    threads.append(threading.Thread(target=carry, args=pair))
                    threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def test_after_a_connection_lost_in_mid_object_it_is_sent_again_whole(database: Database, put: PutObject) -> None:
    stored: list[tuple[str, int]] = []

    def keep(event: Any) -> int:
        stored.append((str(event.request.AffectedSOPInstanceUID), len(event.dataset.PixelData)))
        return 0x0000

    limits = [1 << 20, 1 << 19]
    with peer(keep, SEG) as real, cutting_proxy(real.port, limits) as port:
        destination = real.model_copy(update={"port": port})
        uid = put(destination, size_bytes=2 << 20)
        with delivering(database, destination):
            wait_until(lambda: [state for state, _ in rows(database)] == ["sent"], "it is sent")
    gc.collect()  # warns of a connection that was left open
    assert limits == [], "it was cut off twice"
    assert stored == [(uid, 2 << 20)]


def test_two_deliverers_of_one_destination_send_each_object_once(database: Database, put: PutObject) -> None:
    stored: list[str] = []

    def keep(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    with peer(keep, SEG) as destination:
        sent = sorted(put(destination) for _ in range(20))
        with delivering(database, destination), delivering(database, destination):
            wait_until(lambda: {state for state, _ in rows(database)} == {"sent"}, "all are sent")
    assert sorted(stored) == sent
