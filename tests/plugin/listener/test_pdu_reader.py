"""The reader of PDUs: what it does to the connection that it reads."""

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from plugin.listener import pdu_reader
from plugin.listener.access_control import Refusal
from plugin.listener.pdu_reader import PduLimits, PduReader

IDLE_S = 10.0
PDU_BYTES = 1024


class RecordingConnection:
    """A connection that delivers a few bytes at a time and records what is called, in order."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)
        self.calls: list[Any] = []
        self.timeout = IDLE_S

    def recv_into(self, place: memoryview) -> int:
        self.calls.append("receive")
        part = self._parts.pop(0)
        now, self._parts = part[: len(place)], [part[len(place) :], *self._parts] if part[len(place) :] else self._parts
        place[: len(now)] = now
        return len(now)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self.timeout = seconds

    def setsockopt(self, *option: int) -> None:
        self.calls.append(option)


def reader_of(connection: RecordingConnection, on_refusal: Callable[[Refusal], None] = pytest.fail) -> PduReader:
    association = SimpleNamespace(
        requestor=SimpleNamespace(primitive="requested"),
        dul=SimpleNamespace(socket=SimpleNamespace(socket=connection)),
    )
    return PduReader(association, PduLimits(PDU_BYTES, 10, IDLE_S), on_refusal)


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux alone has the option")
def test_each_receive_is_acknowledged_at_once() -> None:
    connection = RecordingConnection(b"ab", b"c", b"def")
    reader = reader_of(connection)
    assert reader.recv(3) + reader.recv(3) == b"abcdef"
    at_once = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    assert connection.calls == ["receive", at_once] * 3


def test_a_system_without_the_option_reads_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = RecordingConnection(b"ab")
    monkeypatch.setattr(pdu_reader, "socket", SimpleNamespace())
    assert reader_of(connection).recv(2) == b"ab"
    assert connection.calls == ["receive"]


def test_one_receive_brings_all_that_has_come() -> None:
    connection = RecordingConnection(b"abcdef", b"gh")
    reader = reader_of(connection)
    assert bytes(reader.read(2)) + bytes(reader.read(3)) == b"abcde"
    assert connection.calls.count("receive") == 1
    assert reader.has_ahead
    assert bytes(reader.read(3)) == b"fgh"
    assert not reader.has_ahead


def test_the_library_gets_what_was_received_ahead() -> None:
    reader = reader_of(RecordingConnection(b"abcdef", b"gh"))
    assert bytes(reader.read(2)) == b"ab"
    assert reader.recv(3) == b"cde"
    assert reader.recv(2) == b"fg"
    assert bytes(reader.read(1)) == b"h"


def test_bytes_stay_in_order_however_they_come() -> None:
    sent = bytes(number % 251 for number in range(20 * PDU_BYTES))
    parts = [sent[start : start + 700] for start in range(0, len(sent), 700)]
    reader, read = reader_of(RecordingConnection(*parts)), b""
    for length in (6, PDU_BYTES, 6, 900, 6, PDU_BYTES, 1, 500) * 4:
        read += reader.read(length)
    assert read == sent[: len(read)]
    assert len(read) > 10 * PDU_BYTES


def test_the_end_of_the_connection_cuts_a_read_short() -> None:
    reader = reader_of(RecordingConnection(b"abc", b""))
    assert bytes(reader.read(6)) == b"abc"


def test_a_longer_pdu_than_agreed_is_not_received() -> None:
    refused: list[Refusal] = []
    connection = RecordingConnection(b"abc")
    reader = reader_of(connection, refused.append)
    assert not reader.read(2 * PDU_BYTES)
    assert (refused, connection.calls) == ([Refusal.PDU_TOO_LONG], [])


def test_a_slow_pdu_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte comes each second; the socket's own timeout would start anew with each of them."""
    clock = [0.0]

    class SlowConnection(RecordingConnection):
        def recv_into(self, place: memoryview) -> int:
            assert clock[0] + self.timeout <= IDLE_S + IDLE_S * pdu_reader._TIMEOUT_STEP
            clock[0] += 1
            return super().recv_into(place[:1])

    monkeypatch.setattr(pdu_reader, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    refused: list[Refusal] = []
    reader = reader_of(SlowConnection(b"a" * 100), refused.append)
    assert len(reader.read(20)) == IDLE_S
    assert refused == [Refusal.TOO_SLOW]


def test_what_is_sent_after_a_slow_pdu_has_the_whole_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(pdu_reader, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    connection = RecordingConnection(b"a", b"b", b"c")
    assert bytes(reader_of(connection).read(3)) == b"abc"
    assert connection.timeout == IDLE_S
