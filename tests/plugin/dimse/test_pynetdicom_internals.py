"""What the node replaces in pynetdicom, and what an upgrade of it would break.

Where one of these fails after an upgrade, read the library's new code at the place that the failure names, adapt
plugin/dimse/pynetdicom_internals.py to it, and add the version to TRIED_WITH.
"""

import ast
import inspect
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, Association, acse, ae, association, dimse, dul, transport
from pynetdicom.acse import ACSE
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.presentation import negotiate_unrestricted
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from plugin.dimse.pynetdicom_internals import TRIED_WITH, ApplicationEntity, ReactorGate, ReactorPause
from tests.support.listener import MakeListener
from tests.support.node import wait_until
from tests.support.paths import ROOT

RELIED_ON: list[tuple[Callable[..., Any], str, str]] = [
    (AE.associate, "self._create_socket(assoc, local_address, tls_args)", "`_create_socket` makes the connection"),
    (AE._create_socket, "sock.tls_args = tls_args", "`_create_socket` also sets `tls_args`"),
    (AssociationSocket.close, "self._shutdown_socket()", "`close` ends a connection by `_shutdown_socket`"),
    (AssociationSocket.connect, "self._shutdown_socket()", "a refused connection is ended by `_shutdown_socket`"),
    (Association._run_reactor, "self._reactor_checkpoint.wait()", "the reactor waits at `_reactor_checkpoint`"),
    (
        Association.send_c_echo,
        "self._reactor_checkpoint.clear()",
        "sending pauses the reactor at `_reactor_checkpoint`",
    ),
    (Association.release, "self._reactor_checkpoint.clear()", "release pauses the reactor at `_reactor_checkpoint`"),
    (Association.kill, "self._reactor_checkpoint.set()", "kill lets a paused reactor run to its end"),
    (Association.kill, "self._kill = True", "`_kill` says that the association is to end"),
    (Association._run_reactor, "self._serve_request(msg, ", "requests go to `_serve_request`"),
    (DIMSEServiceProvider.receive_primitive, "self.assoc._serve_request", "N-EVENT-REPORT goes to `_serve_request`"),
    (
        Association.run_reactor,
        "if primitive is None:\n                self.kill()",
        "None in `to_user_queue` ends the wait",
    ),
    (DULServiceProvider.receive_pdu, "self.to_user_queue.get(", "the wait for a request is one for `to_user_queue`"),
    (DULServiceProvider.run_reactor, "elif self._is_transport_event():", "`_is_transport_event` polls the connection"),
    (DULServiceProvider.run_reactor, "if self._process_recv_primitive():", "what is to be sent has precedence"),
    (DULServiceProvider.run_reactor, "if self._kill_thread:\n                break", "`_kill_thread` ends the thread"),
    (DULServiceProvider._is_transport_event, "self._read_pdu_data()", "`_read_pdu_data` reads and processes a PDU"),
    (DULServiceProvider._read_pdu_data, "self.socket.recv(6)", "the header of a PDU is read by `socket.recv`"),
    (DULServiceProvider._read_pdu_data, "self.socket.recv(pdu_length)", "the rest of a PDU is read by `socket.recv`"),
    (DULServiceProvider._read_pdu_data, 'self.event_queue.put("Evt17")', "Evt17 says that the connection was closed"),
    (DULServiceProvider._read_pdu_data, 'self.event_queue.put("Evt19")', "Evt19 says that a PDU was invalid"),
    (DULServiceProvider.idle_timer_expired, "self._idle_timer.expired", "`_idle_timer` is the network timeout"),
    (AssociationServer.shutdown, "self.ae._servers.remove(", "`shutdown` removes the server from `_servers`"),
    (AssociationServer.service_actions, "if self._gc[0] == self._gc[1]:", "`_gc` counts polls up to a collection"),
    (RequestHandler.handle, "self._create_association()", "`_create_association` makes an acceptor's association"),
    (Association.__init__, "self.acse: ACSE = ACSE(self)", "`acse` negotiates for an association"),
    (
        ACSE.negotiate_association,
        "self._negotiate_as_acceptor()",
        "`_negotiate_as_acceptor` agrees on contexts",
    ),
    (
        ACSE._negotiate_as_acceptor,
        "assoc_rq.presentation_context_definition_list,\n                self.acceptor.supported_contexts,",
        "the requestor's contexts are taken from its primitive",
    ),
    (
        ACSE._negotiate_as_acceptor,
        "self.assoc._rejected_cx = [cx for cx in result if cx.result != 0x00]",
        "what was agreed on is in `_accepted_cx` and `_rejected_cx` before `send_accept`",
    ),
    (
        ACSE.send_accept,
        "self.assoc.accepted_contexts + self.assoc.rejected_contexts",
        "`send_accept` answers with these contexts",
    ),
    (
        negotiate_unrestricted,
        "cx.transfer_syntax = [rcx.transfer_syntax[0]]",
        "of a storage class, the transfer syntax that stands first is accepted",
    ),
    (DIMSEServiceProvider.receive_primitive, "self.message = None", "`message` is None between messages"),
    (DIMSEServiceProvider.send_msg, "self.dul.send_pdu(pdata)", "the parts of a message go to `dul.send_pdu`"),
    (
        Association.send_c_store,
        "encode(",
        "a data set is encoded by `pynetdicom.association.encode`, which tests replace",
    ),
]
"""A function of pynetdicom, a part of its code, and what plugin/dimse/pynetdicom_internals.py takes from that."""

LIBRARY_MODULES = (acse, ae, association, dimse, dul, transport)
OWN_MODULE = Path("plugin/dimse/pynetdicom_internals.py")


@pytest.mark.parametrize(("function", "code", "meaning"), RELIED_ON, ids=[meaning for *_, meaning in RELIED_ON])
def test_the_library_works_as_relied_on(function: Callable[..., Any], code: str, meaning: str) -> None:
    place = f"{function.__module__}.{function.__qualname__}"
    assert code in inspect.getsource(function), (
        f"pynetdicom {version('pynetdicom')} changed {place}: is it still so that {meaning}? See {OWN_MODULE}."
    )


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (AE._create_socket, "self, assoc, address, tls_args"),
        (ACSE.__init__, "self, assoc"),
        (ACSE._negotiate_as_acceptor, "self"),
        (ACSE.send_accept, "self"),
        (AssociationSocket.__init__, "self, assoc, client_socket, address"),
        (AssociationSocket._shutdown_socket, "self"),
        (AssociationSocket.recv, "self, nr_bytes"),
        (Association._serve_request, "self, msg, context_id"),
        (RequestHandler._create_association, "self"),
        (DIMSEServiceProvider.__init__, "self, assoc"),
        (DIMSEServiceProvider.receive_primitive, "self, primitive"),
        (DIMSEServiceProvider.send_msg, "self, primitive, context_id"),
        (DULServiceProvider._is_transport_event, "self"),
    ],
)
def test_what_is_replaced_has_the_same_parameters(function: Callable[..., Any], parameters: str) -> None:
    assert ", ".join(inspect.signature(function).parameters) == parameters, (
        f"pynetdicom {version('pynetdicom')} calls {function.__qualname__} in another way; adapt {OWN_MODULE}."
    )


def test_states_and_events_have_the_names_that_are_used() -> None:
    assert TRANSITION_TABLE["Evt17", "Sta6"] == "AA-4", "PS3.8 table 9-10: connection closed while established"
    assert TRANSITION_TABLE["Evt19", "Sta6"] == "AA-8", "PS3.8 table 9-10: invalid PDU while established"


def test_the_version_was_tried() -> None:
    assert version("pynetdicom") in TRIED_WITH, (
        f"Read the changes of pynetdicom, then add it to TRIED_WITH in {OWN_MODULE}."
    )


def test_no_other_module_uses_a_private_name_of_pynetdicom() -> None:
    source = "".join(inspect.getsource(module) for module in LIBRARY_MODULES)
    private = set(re.findall(r"(?:self\.|def )(_[a-z]\w*)", source)) - {"_lock"}  # which others have, too
    assert {"_reactor_checkpoint", "_is_transport_event", "_servers", "_create_socket"} <= private
    classes = {name for module in LIBRARY_MODULES for name, _ in inspect.getmembers(module, inspect.isclass)}
    found = []
    for path in sorted([*(ROOT / "plugin").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        if path in (ROOT / OWN_MODULE, Path(__file__)):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & classes:
                names = {getattr(each, "attr", getattr(each, "name", "")) for each in ast.walk(node)} & private
                found += [f"{path}: {name} in {node.name}" for name in names]
            elif getattr(node, "attr", "") in private and ast.unparse(node.value) not in ("self", "cls"):
                found.append(f"{path}:{node.lineno}: {node.attr}")
    assert found == [], f"private names of pynetdicom are used outside {OWN_MODULE}"


class WatchedEntity(ApplicationEntity):
    """Remembers its connection, which the library forgets."""

    connection: socket.socket

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        made = super()._create_socket(*arguments)
        self.connection = made.socket
        return made


@pytest.fixture
def entity() -> WatchedEntity:
    made = WatchedEntity("SENDER")
    made.add_requested_context(Verification)
    return made


@contextmanager
def refusing_port() -> Iterator[int]:
    """Give a port of loopback on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@contextmanager
def resetting_port() -> Iterator[int]:
    """Give a port of loopback whose server resets a connection once it has read something."""

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


@pytest.mark.parametrize("port_of_peer", [refusing_port, resetting_port])
def test_a_connection_that_the_peer_ends_is_closed(port_of_peer: Callable[[], Any], entity: WatchedEntity) -> None:
    with port_of_peer() as port:
        assert not entity.associate("127.0.0.1", port).is_established
    assert entity.connection.fileno() == -1


def test_a_released_connection_is_closed_and_its_reactor_paused_reliably(
    make_listener: MakeListener, entity: WatchedEntity
) -> None:
    opened = entity.associate("127.0.0.1", make_listener().port, ae_title="GLIONODE")
    assert opened.send_c_echo().Status == 0x0000
    assert isinstance(opened._reactor_checkpoint, ReactorPause)
    opened.release()
    opened.join(10)
    assert entity.connection.fileno() == -1


class Reactor:
    """A thread that runs as the library's does, and takes every response that it finds."""

    def __init__(self) -> None:
        self.pause = ReactorPause()
        self.responses: list[int] = []
        self.taken: list[int] = []
        self.rounds = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.is_set():
            self.pause.wait()
            self.rounds += 1
            if self.responses:
                self.taken.append(self.responses.pop())

    def end(self) -> None:
        self.ended.set()
        self.pause.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_a_paused_reactor_takes_no_response() -> None:
    reactor = Reactor()
    for response in range(3000):
        reactor.pause.clear()
        before = reactor.rounds
        reactor.responses.append(response)  # it comes at once, as on a quick network
        assert reactor.responses == [response]
        assert reactor.rounds == before
        assert reactor.responses.pop() == response
        reactor.pause.set()
    reactor.end()
    assert reactor.taken == []


def test_clear_returns_when_the_reactor_has_stopped() -> None:
    pause, runs, may_go_on, stopped = ReactorPause(), threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        pause.wait()
        runs.set()
        may_go_on.wait(10)
        pause.wait()

    def clear() -> None:
        pause.clear()
        stopped.set()

    threads = [threading.Thread(target=run), threading.Thread(target=clear)]
    threads[0].start()
    assert runs.wait(10)
    threads[1].start()
    assert not stopped.wait(0.2), "the reactor still runs"
    may_go_on.set()
    assert stopped.wait(10)
    assert threads[0].is_alive()
    pause.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_reactor_runs_on_after_its_pause() -> None:
    reactor = Reactor()
    reactor.pause.clear()
    assert not reactor.pause.is_set()
    before = reactor.rounds
    reactor.pause.set()
    wait_until(lambda: reactor.rounds > before, "it runs on", 5)
    reactor.end()


def test_a_reactor_that_has_ended_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.dimse.pynetdicom_internals._LONGEST_PAUSE_S", 0.05)
    pause = ReactorPause()
    pause.clear()
    assert pause.wait(0.01) is False
    pause.set()
    assert pause.wait(0.01) is True


def test_a_gate_stops_the_reactor_while_it_is_held_or_cleared() -> None:
    gate, passed = ReactorGate(), threading.Semaphore(0)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            gate.wait()
            passed.release()
            ended.wait(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    for stop, go_on in ((gate.hold, gate.release), (gate.clear, gate.set)):
        stop()
        while passed.acquire(timeout=0.1):  # until it has arrived
            pass
        go_on()
        assert passed.acquire(timeout=10)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()
