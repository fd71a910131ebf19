"""Hostile or faulty peers: refused and counted, in bounded time and memory; others go on."""

import logging
import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pynetdicom.sop_class import Verification

from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.listener import open_connections
from plugin.listener.refusals import read_refusals
from plugin.logs import limit_library_logging
from tests.support.certificates import Authority
from tests.support.listener import (
    ListenerWithArchive,
    MakeListener,
    associate_request,
    association,
    begin_store,
    pdu,
    raw_connection,
    read_pdu,
)
from tests.support.node import make_instance, new_study_uid, wait_until

ACCEPTED, REJECTED, P_DATA, ABORTED = 0x02, 0x03, 0x04, 0x07
ELSEWHERE = "192.0.2.0/24"  # RFC 5737: for documentation, used by nobody


def read_counts(listener: ListenerWithArchive) -> dict[str, int]:
    return read_refusals(listener.archive.data_dir)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def send_slowly(connection: socket.socket, content: bytes) -> None:
    """Send byte by byte, each well within the timeout of a single read."""
    pause = threading.Event()
    for each in content:
        connection.sendall(bytes([each]))
        pause.wait(0.05)


def still_serves(listener: ListenerWithArchive) -> bool:
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(Verification)
    peer = ae.associate("127.0.0.1", listener.port, ae_title="GLIONODE")
    if not peer.is_established:
        return False
    status: int = peer.send_c_echo().Status
    peer.release()
    return status == 0x0000


def send_without_end(connection: socket.socket, first: bytes, again: bytes) -> None:
    connection.sendall(first)
    while True:
        connection.sendall(again)


@pytest.mark.parametrize(
    ("calling", "called", "reason", "text"),
    [
        (b"STRANGER", b"GLIONODE", 3, "calling AE title not allowed"),
        (b"SENDER", b"OTHER", 7, "called by another AE title"),
        (b"ELSEWHERE", b"GLIONODE", 3, "calling AE title not allowed"),
    ],
)
def test_an_unknown_title_is_rejected_and_read_counts(
    make_listener: MakeListener, calling: bytes, called: bytes, reason: int, text: str
) -> None:
    senders = [{"ae_title": "ELSEWHERE", "networks": [ELSEWHERE]}, {"ae_title": "SENDER", "networks": ["127.0.0.0/8"]}]
    listener = make_listener(senders=senders)
    with raw_connection(listener.port) as connection:
        connection.sendall(associate_request(calling, called))
        assert read_pdu(connection) == pdu(REJECTED, bytes((0, 1, 1, reason)))  # PS3.8 table 9-21: permanent, user
    assert read_counts(listener) == {text: 1}
    assert still_serves(listener)


def test_an_address_that_is_not_allowed_gets_no_answer(make_listener: MakeListener) -> None:
    listener = make_listener(senders=[{"ae_title": "SENDER", "networks": [ELSEWHERE]}])
    with raw_connection(listener.port) as connection:
        assert read_pdu(connection) == b""
    assert read_counts(listener) == {"address not allowed": 1}


@pytest.mark.parametrize("established", [False, True])
def test_a_pdu_of_a_gigabyte_is_not_read(make_listener: MakeListener, established: bool) -> None:
    listener = make_listener()
    with raw_connection(listener.port) as connection:
        if established:
            connection.sendall(associate_request())
            assert read_pdu(connection)[0] == ACCEPTED
        tracemalloc.start()
        connection.sendall(pdu(P_DATA if established else 0x01, b"", announced=1 << 30))
        try:
            for _ in range(64):
                connection.sendall(bytes(1 << 20))
        except OSError:
            pass  # it has closed the connection
        else:
            pytest.fail("it reads all of it")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 << 20
    assert read_counts(listener) == {"PDU longer than agreed": 1}
    assert still_serves(listener)


def test_a_pdu_slightly_longer_than_agreed_ends_the_association(make_listener: MakeListener) -> None:
    listener = make_listener()
    with raw_connection(listener.port) as connection:
        connection.sendall(associate_request())
        agreed = read_pdu(connection)
        assert agreed.count((131072).to_bytes(4, "big")) == 1, "the length that the node offers"
        connection.sendall(pdu(P_DATA, b"", announced=131072 + 4096))
        assert read_pdu(connection) == b""


@pytest.mark.parametrize("sent", [b"", b"\x01\x00\x00", associate_request()[:-1]], ids=["nothing", "half", "most"])
def test_a_connection_without_a_whole_request_is_closed(make_listener: MakeListener, sent: bytes) -> None:
    listener = make_listener(negotiation_timeout_s=1.0)
    with raw_connection(listener.port) as connection:
        connection.sendall(sent)
        assert read_pdu(connection) == b""
    wait_until(lambda: read_counts(listener) == {"too slow": 1}, "it is counted")
    assert still_serves(listener)


def test_a_connection_that_stops_in_the_middle_of_a_pdu_is_closed(make_listener: MakeListener) -> None:
    listener = make_listener(idle_timeout_s=1.0)
    with raw_connection(listener.port) as connection:
        connection.sendall(associate_request())
        assert read_pdu(connection)[0] == ACCEPTED
        connection.sendall(pdu(P_DATA, bytes(10), announced=1000))
        while read_pdu(connection):
            pass
    wait_until(lambda: read_counts(listener) == {"too slow": 1}, "it is counted")
    assert still_serves(listener)


@pytest.mark.parametrize("established", [False, True])
def test_a_connection_that_sends_very_slowly_is_closed(make_listener: MakeListener, established: bool) -> None:
    listener = make_listener(**({"idle_timeout_s": 1.0} if established else {"negotiation_timeout_s": 1.0}))
    with raw_connection(listener.port) as connection:
        content = associate_request()
        if established:
            connection.sendall(content)
            assert read_pdu(connection)[0] == ACCEPTED
            content = pdu(P_DATA, bytes(1000))
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            send_slowly(connection, content)
    wait_until(lambda: read_counts(listener) == {"too slow": 1}, "it is counted")


def test_associations_per_address_are_limited(make_listener: MakeListener) -> None:
    listener = make_listener(max_associations_per_peer=2)
    with association(listener.port) as first, association(listener.port) as second:
        with raw_connection(listener.port) as connection:
            connection.sendall(associate_request())
            assert read_pdu(connection) == pdu(REJECTED, bytes((0, 2, 3, 2)))  # transient, local limit exceeded
        for peer in (first, second):
            assert peer.send_c_store(make_instance(new_study_uid())).Status == 0x0000
    assert read_counts(listener) == {"too many associations of one address": 1}
    wait_until(lambda: still_serves(listener), "there is room again")


def test_five_hundred_connections_take_few_threads(make_listener: MakeListener) -> None:
    listener = make_listener(max_associations=4, max_associations_per_peer=4)
    before = threads()
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(raw_connection(listener.port))
        gave_way = {"useless for longest, ended for another connection": 500 - 4}
        wait_until(lambda: read_counts(listener) == gave_way, "the surplus is closed")
        wait_until(lambda: threads() < before + 50, "their threads end")
        assert still_serves(listener), "although those that are left are silent"


def test_silent_connections_over_tls_keep_nobody_out(
    make_listener: MakeListener, program: Callable[[str], str], tmp_path: Path
) -> None:
    mine = Authority(program, tmp_path / "authority").sign("node")
    limits = {"max_associations": 4, "max_associations_per_peer": 4}
    listener = make_listener(tls_certificate=mine.certificate, tls_key=mine.key, **limits)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(raw_connection(listener.port))
        plain = stack.enter_context(raw_connection(listener.port))
        connection = stack.enter_context(context.wrap_socket(plain))
        connection.sendall(associate_request())
        assert connection.recv(1) == bytes([ACCEPTED])
    assert set(read_counts(listener)) <= {"useless for longest, ended for another connection", "TLS handshake failed"}


def echoing(port: int, calling: bytes = b"SENDER") -> socket.socket:
    """Open an association and echo once."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(associate_request(calling))
    assert read_pdu(connection)[0] == ACCEPTED
    assert echoes(connection)
    return connection


def echoes(connection: socket.socket) -> bool:
    """Send a C-ECHO, and return whether there is a response; False where the association was aborted."""
    # PS3.7 9.3.5.1: a command in implicit VR, of which the first element has the length of the others
    elements = (0x0002, b"1.2.840.10008.1.1\0"), (0x0100, b"\x30\0"), (0x0110, b"\x01\0"), (0x0800, b"\x01\x01")
    others = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    command = struct.pack("<HHLL", 0, 0, 4, len(others)) + others
    try:
        connection.sendall(pdu(P_DATA, struct.pack(">LBB", len(command) + 2, 1, 3) + command))
        return read_pdu(connection)[:1] == bytes([P_DATA])
    except OSError:
        return False


def test_associations_that_only_echo_keep_nobody_out(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "_PATIENCE_S", 0.0)
    listener = make_listener(max_associations=4, max_associations_per_peer=4)
    with ExitStack() as stack:
        several = [stack.enter_context(echoing(listener.port)) for _ in range(4)]
        with association(listener.port) as peer:
            assert peer.send_c_store(make_instance(new_study_uid())).Status == 0x0000
        assert read_pdu(several[0])[0] == ABORTED, "the one that was useless for longest"
        assert all(echoes(each) for each in several[1:])
    assert read_counts(listener) == {"useless for longest, ended for another connection": 1}


def test_associations_of_one_title_are_limited(make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = make_listener(max_associations_per_ae_title=2)
    with ExitStack() as stack:
        first, _ = [stack.enter_context(echoing(listener.port, b"MR1")) for _ in range(2)]
        connection = stack.enter_context(raw_connection(listener.port))
        connection.sendall(associate_request(b"MR1"))
        assert read_pdu(connection) == pdu(REJECTED, bytes((0, 2, 3, 2)))  # transient, local limit exceeded
        stack.enter_context(echoing(listener.port, b"MR2"))
        monkeypatch.setattr(open_connections, "_PATIENCE_S", 0.0)
        stack.enter_context(echoing(listener.port, b"MR1"))
        assert read_pdu(first)[0] == ABORTED


def test_an_association_that_only_echoes_ends(make_listener: MakeListener) -> None:
    listener = make_listener(useless_timeout_s=0.3)
    with echoing(listener.port) as connection:
        wait_until(lambda: not echoes(connection), "it is aborted", 20)
    wait_until(lambda: read_counts(listener) == {"nothing but C-ECHO for too long": 1}, "it is counted")


def test_an_object_that_comes_byte_by_byte_ends(make_listener: MakeListener) -> None:
    """Each PDU is whole and quick, and the object never ends."""
    listener = make_listener(idle_timeout_s=0.5)
    begun = begin_store(make_instance(new_study_uid()))
    with association(listener.port) as peer:
        connection = peer.dul.socket.socket
        with pytest.raises(OSError, match=r"Broken pipe|reset|Bad file|closed"):
            send_without_end(connection, begun, pdu(P_DATA, struct.pack(">LBB", 2, 1, 0)))
    wait_until(lambda: read_counts(listener) == {"too slow": 1}, "it is counted")
    assert listener.stored_studies == []


def test_only_valid_ae_titles_are_logged(make_listener: MakeListener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # a command line run by an earlier test sets the root's level, too
    for name in ("highdicom", "procrastinate", "pydicom", "pynetdicom", "pynetdicom.dul", "pynetdicom.utils"):
        caplog.set_level(logging.NOTSET, logger=name)  # puts it back after the test
    limit_library_logging(logging.INFO)
    listener = make_listener(calling_ae_titles=("SENDER",))
    for calling in (b"NEIGHBOUR", b"\x1b[31mEVIL", b"EV\xcfIL", b"E\nVIL"):
        with raw_connection(listener.port) as connection:
            connection.sendall(associate_request(calling))
            read_pdu(connection)
    expected = {"calling AE title not allowed": 1, "no association request": 3}
    wait_until(lambda: read_counts(listener) == expected, "all are counted")
    assert "(NEIGHBOUR): calling AE title not allowed" in caplog.text
    assert "VIL" not in caplog.text
    assert "56 CF" not in caplog.text
