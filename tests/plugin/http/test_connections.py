"""Silent, slow and hanging clients of the HTTP server lock nobody out, and are ended."""

import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CollectorRegistry

from plugin.http.connections import ConnectionLimits, Connections
from plugin.http.server import http_server, make_app
from plugin.node.health_probe import Outcome, probe_health
from plugin.orthanc_api.callbacks import Callbacks
from plugin.orthanc_api.http_routes import plugin_routes
from plugin.orthanc_api.rest_output import RestResponse
from plugin.settings.sections import HttpSettings
from tests.support.certificates import Authority
from tests.support.node import wait_until

TIMEOUT_S = 20.0
LARGE = b"x" * (1 << 20)


def routes() -> APIRouter:
    made = APIRouter()

    @made.post("/body")
    async def read(request: Request) -> Response:
        return Response(str(len(await request.body())))

    @made.get("/large")
    async def large() -> StreamingResponse:
        return StreamingResponse(iter([LARGE] * 64))

    return made


@contextmanager
def serving(*more: APIRouter, **settings: object) -> Iterator[HttpSettings]:
    """Serve, and give the settings with the port."""
    values = HttpSettings.model_validate({"enabled": True, "port": 0, **settings})
    with http_server(values, make_app({"disk": lambda: None}, CollectorRegistry(), *more)) as url:
        yield values.model_copy(update={"port": urlsplit(url).port})


def connect(settings: HttpSettings, sent: bytes = b"", receive_buffer: int = 0) -> socket.socket:
    made = socket.socket()
    made.settimeout(TIMEOUT_S)
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.connect(("127.0.0.1", settings.port))
    made.sendall(sent)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection, and return True."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def ask(connection: socket.socket, path: str = "/health") -> bytes:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection.recv(65536)


@pytest.mark.parametrize("over_tls", [False, True])
def test_silent_connections_lock_nobody_out(over_tls: bool, program: Callable[[str], str], tmp_path: Path) -> None:
    more = {}
    if over_tls:
        mine = Authority(program, tmp_path / "authority").sign("node")
        more = {"tls_certificate": mine.certificate, "tls_key": mine.key}
    with serving(max_connections=40, max_connections_per_address=30, **more) as settings, ExitStack() as stack:
        silent = [stack.enter_context(connect(settings)) for _ in range(60)]
        assert probe_health(settings, TIMEOUT_S).outcome is Outcome.HEALTHY
        assert is_closed(silent[0]), "it has waited longest"
        silent[-1].settimeout(0)
        with pytest.raises(BlockingIOError):
            silent[-1].recv(1)


STALLING = {
    "silent": b"",
    "head": b"GET /health HTTP/1.1\r\nHost: loc",
    "body": b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
    "body that nobody reads": b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
    "response": b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "idle": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def test_connections_that_stand_still_are_ended() -> None:
    with serving(routes(), stall_timeout_s=0.5) as settings, ExitStack() as stack:
        stalling = {
            name: stack.enter_context(connect(settings, sent, receive_buffer=4096 if name == "response" else 0))
            for name, sent in STALLING.items()
        }
        for name, connection in stalling.items():
            if name != "response":
                assert is_closed(connection), name
        unread = select.poll()
        unread.register(stalling["response"], 0)  # no reading: only what the kernel says of its end
        assert unread.poll(TIMEOUT_S * 1000), "it was ended while the peer read nothing"


def test_over_tls_the_handshake_is_limited(program: Callable[[str], str], tmp_path: Path) -> None:
    mine = Authority(program, tmp_path / "authority").sign("node")
    with serving(stall_timeout_s=0.5, tls_certificate=mine.certificate, tls_key=mine.key) as settings:
        with connect(settings) as silent, connect(settings, b"\x16\x03\x01\x02\x00\x01") as begun:
            assert is_closed(silent)
            assert is_closed(begun)
        context = ssl.create_default_context(cafile=None)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with connect(settings) as plain, context.wrap_socket(plain) as spoken:
            assert b" 200 " in ask(spoken)
            assert is_closed(spoken), "it is idle"


def test_bodies_that_come_steadily_are_read() -> None:
    with serving(routes(), stall_timeout_s=2.0) as settings, connect(settings) as connection:
        connection.sendall(
            b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\nConnection: close\r\n\r\n"
        )
        for _ in range(3000):
            connection.sendall(bytes(1000))
        answer = bytearray()
        while part := connection.recv(65536):
            answer += part
        assert answer.endswith(b"\r\n\r\n3000000")


def test_a_plugin_that_hangs_stops_no_health_check() -> None:
    released = threading.Event()

    class Hanging(Callbacks):
        def handle(self, request: object) -> RestResponse | None:
            released.wait(TIMEOUT_S)
            return None

    token = "a-token-of-the-tests-alone"
    request = f"GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    with serving(plugin_routes(Hanging(), token)) as settings, ExitStack() as stack:
        hanging = [stack.enter_context(connect(settings, request)) for _ in range(45)]
        wait_until(lambda: len(select.select(hanging, [], [], 0)[0]) == 5, "five are too many", TIMEOUT_S)
        assert probe_health(settings, TIMEOUT_S).outcome is Outcome.HEALTHY
        released.set()
        assert Counter(each.recv(12)[9:] for each in hanging) == {b"404": 40, b"503": 5}


HERE = "192.0.2.100"
Admit = Callable[..., list[str]]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Six at most, of which two are for this machine; three of an address."""
    monkeypatch.setattr("plugin.http.connections._KEPT_FOR_THIS_MACHINE", 2)
    return Connections(ConnectionLimits(total=6, per_address=3, stall_timeout_s=30))


@pytest.fixture
def admitted(connections: Connections) -> Iterator[Admit]:
    """Open a connection from each address and return the addresses of all that are open then."""
    with ExitStack() as stack:

        def admit(*addresses: str) -> list[str]:
            for address in addresses:
                ours, theirs = socket.socketpair()
                theirs.close()
                made = connections.admit(ours, address, HERE)
                if made is not None:
                    stack.callback(made.close)
            return [each.address for each in connections]

        yield admit


def test_the_address_with_most_connections_gives_way(admitted: Admit) -> None:
    first, second, third, here = "192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1"
    assert admitted(first, first, first, first) == [first] * 3
    assert admitted(second) == [first, first, first, second]
    assert admitted(third) == [first, first, second, third], "other machines get 4 of the 6"
    assert admitted(here, here) == [first, first, second, third, here, here]
    assert admitted(HERE) == [first, second, third, here, here, HERE], "this machine by its own address"
    assert admitted(third) == [first, second, third, here, HERE, third]


def test_a_connection_that_works_gives_way_to_none(connections: Connections, admitted: Admit) -> None:
    admitted(*["192.0.2.1"] * 3)
    for each in connections:
        each.protocol = SimpleNamespace(waiting_since=None)  # type: ignore[assignment]
    working = list(connections)
    assert admitted("192.0.2.1", "192.0.2.2") == ["192.0.2.1"] * 3 + ["192.0.2.2"]
    assert list(connections)[:3] == working
