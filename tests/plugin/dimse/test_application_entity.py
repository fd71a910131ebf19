"""Associations that the node asks for leave no connection open, whichever side ends it."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationSocket

from plugin.dimse.application_entity import ApplicationEntity
from plugin.dimse.reactor_pause import ReactorPause
from tests.support.listener import Receiving


class Watched(ApplicationEntity):
    """Remembers its connection, which the library forgets."""

    connection: socket.socket

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        made = super()._create_socket(*arguments)
        self.connection = made.socket
        return made


@pytest.fixture
def caller() -> Watched:
    ae = Watched("SENDER")
    ae.add_requested_context(Verification)
    return ae


@contextmanager
def refusing() -> Iterator[int]:
    """A port of loopback on which nobody listens, nor will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@contextmanager
def resetting() -> Iterator[int]:
    """A port of loopback whose server resets a connection once it has read something of it."""

    def reset() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=reset)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("peer", [refusing, resetting])
def test_a_connection_that_the_peer_ends_is_closed(peer: Callable[[], Any], caller: Watched) -> None:
    with peer() as port:
        assert not caller.associate("127.0.0.1", port).is_established
    assert caller.connection.fileno() == -1


def test_one_that_this_side_ends_is_closed_and_pauses_as_it_should(
    receive: Callable[..., Receiving], caller: Watched
) -> None:
    association = caller.associate("127.0.0.1", receive().port, ae_title="GLIONODE")
    assert association.send_c_echo().Status == 0x0000
    assert isinstance(association._reactor_checkpoint, ReactorPause)
    association.release()
    association.join(10)
    assert caller.connection.fileno() == -1
