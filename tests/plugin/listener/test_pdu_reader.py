"""The reader of PDUs: what it does to the connection that it reads."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from plugin.listener import pdu_reader
from plugin.listener.pdu_reader import PduLimits, PduReader


class RecordingConnection:
    """A connection that delivers a few bytes at a time and records what is called, in order."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)
        self.calls: list[Any] = []

    def recv_into(self, place: memoryview) -> int:
        self.calls.append("receive")
        part = self._parts.pop(0)
        place[: len(part)] = part
        return len(part)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setsockopt(self, *option: int) -> None:
        self.calls.append(option)


def reader_of(connection: RecordingConnection) -> PduReader:
    association = SimpleNamespace(
        requestor=SimpleNamespace(primitive="requested"),
        dul=SimpleNamespace(socket=SimpleNamespace(socket=connection)),
    )
    return PduReader(association, PduLimits(1024, 10, 10), pytest.fail)


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
