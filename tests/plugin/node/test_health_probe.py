"""`glionode health`, the health check of a container, over plain HTTP and over TLS."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from pipeline.errors import SettingsWrong
from plugin.commands.app import app
from plugin.http.server import http_server, make_app
from plugin.node.health_probe import Outcome, Probe, probe_health
from plugin.settings.sections import HttpSettings
from tests.support.certificates import Authority

TIMEOUT_S = 20.0
HEALTHY = Probe(Outcome.HEALTHY)
TLS = {"tls_certificate": "named in the settings", "tls_key": "not read here"}


def probe(checks: dict[str, Any], host: str = "127.0.0.1", **more: object) -> Probe:
    """Probe a server on loopback with these checks, with settings that name its port and `host`."""
    settings = HttpSettings.model_validate({"enabled": True, "port": 0, **more})
    with http_server(settings, make_app(checks, CollectorRegistry())) as url:
        return probe_health(settings.model_copy(update={"port": urlsplit(url).port, "host": host}), TIMEOUT_S)


def test_a_healthy_node() -> None:
    assert probe({"disk": lambda: None}) == HEALTHY
    assert probe({"disk": lambda: None}, host="0.0.0.0") == HEALTHY


def test_problems_are_named() -> None:
    found = probe({"disk": lambda: None, "start": lambda: "The node is starting."})
    assert found == Probe(Outcome.UNHEALTHY, ("start: The node is starting.",))


def test_over_tls(program: Callable[[str], str], tmp_path: Path) -> None:
    """The certificate names a host, not the loopback address."""
    mine = Authority(program, tmp_path / "authority").sign("node", subject="DNS:node.example")
    assert probe({"disk": lambda: None}, tls_certificate=mine.certificate, tls_key=mine.key) == HEALTHY


def test_nothing_answers() -> None:
    with closing(socket.socket()) as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = probe_health(HttpSettings(enabled=True, port=port), TIMEOUT_S)
    assert found.outcome is Outcome.NOT_THERE
    assert found.problems[0].startswith(f"Nothing listens on 127.0.0.1:{port} (")


@contextmanager
def one_answer(answer: bytes, then_close: bool = True) -> Iterator[int]:
    """Answer one connection, whatever it sends; gives the port."""
    done = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if not then_close:
                    done.wait(TIMEOUT_S)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listening.getsockname()[1]
        done.set()
        thread.join()


@pytest.mark.parametrize("body", [b'{"fine": true}', b"[]", b"\xff"])
def test_another_server_answers(body: bytes) -> None:
    with one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as port:
        found = probe_health(HttpSettings(enabled=True, port=port), TIMEOUT_S)
    assert found.outcome is Outcome.NOT_GLIONODE
    assert [sentence.partition("on ")[0] for sentence in found.problems] == ["The server "]


def test_another_protocol_answers() -> None:
    with one_answer(b"220 mail.example ESMTP\r\n") as port:
        assert probe_health(HttpSettings(enabled=True, port=port), TIMEOUT_S).outcome is Outcome.NOT_GLIONODE
    with one_answer(b"220 mail.example ESMTP\r\n") as port:
        assert probe_health(HttpSettings(enabled=True, port=port, **TLS), TIMEOUT_S).outcome is Outcome.TLS_FAILS


def test_a_server_closes_the_connection() -> None:
    with one_answer(b"") as port:
        found = probe_health(HttpSettings(enabled=True, port=port), TIMEOUT_S)
    assert found.outcome is Outcome.NO_ANSWER
    assert "closes the connection without an answer" in found.problems[0]


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
@pytest.mark.parametrize("tls", [{}, TLS])
def test_no_answer_in_time(begun: bytes, tls: dict[str, str]) -> None:
    if begun and tls:
        return  # it is no TLS, which shows at once
    with one_answer(begun, then_close=False) as port:
        found = probe_health(HttpSettings(enabled=True, port=port, **tls), 0.3)
    assert found.outcome is Outcome.NO_ANSWER
    assert "gives no answer within 0.3 s" in found.problems[0]


def test_settings_without_http_are_refused() -> None:
    for settings in (HttpSettings(), HttpSettings(enabled=True, port=0)):
        with pytest.raises(SettingsWrong, match=r"set http\.enabled"):
            probe_health(settings, TIMEOUT_S)


def test_the_exit_status_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(app, ["health"]).exit_code == 64
    settings, why = HttpSettings(port=0), ""
    monkeypatch.setenv("GLIONODE_HTTP__ENABLED", "true")
    with http_server(settings, make_app({"disk": lambda: why or None}, CollectorRegistry())) as url:
        monkeypatch.setenv("GLIONODE_HTTP__PORT", str(urlsplit(url).port))
        result = CliRunner().invoke(app, ["health", "--timeout", str(TIMEOUT_S)])
        assert (result.exit_code, result.output) == (0, "The node is healthy.\n")
        why = "5 MiB are free."
        result = CliRunner().invoke(app, ["health", "--timeout", str(TIMEOUT_S)])
        assert (result.exit_code, result.output) == (1, "disk: 5 MiB are free.\n")
