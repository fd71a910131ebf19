"""`glionode health`, the health check of a container, over plain HTTP and over TLS."""

import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from pipeline.errors import SettingsWrong
from plugin.commands.app import app
from plugin.http.server import http_server, make_app
from plugin.node.health_probe import probe_health
from plugin.settings.sections import HttpSettings
from tests.support.certificates import Authority

TIMEOUT_S = 20.0


def probe(checks: dict[str, Any], host: str = "127.0.0.1", **more: object) -> tuple[str, ...]:
    """Probe a server on loopback with these checks, with settings that name its port and `host`."""
    settings = HttpSettings.model_validate({"enabled": True, "port": 0, **more})
    with http_server(settings, make_app(checks, CollectorRegistry()), 1) as url:
        return probe_health(settings.model_copy(update={"port": urlsplit(url).port, "host": host}), TIMEOUT_S)


def test_a_healthy_node() -> None:
    assert probe({"disk": lambda: None}) == ()
    assert probe({"disk": lambda: None}, host="0.0.0.0") == ()


def test_problems_are_named() -> None:
    assert probe({"disk": lambda: None, "start": lambda: "The node is starting."}) == ("start: The node is starting.",)


def test_over_tls(program: Callable[[str], str], tmp_path: Path) -> None:
    """The certificate names a host, not the loopback address."""
    mine = Authority(program, tmp_path / "authority").sign("node", subject="DNS:node.example")
    assert probe({"disk": lambda: None}, tls_certificate=mine.certificate, tls_key=mine.key) == ()


def test_nothing_answers() -> None:
    with closing(socket.socket()) as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (problem,) = probe_health(HttpSettings(enabled=True, port=port), TIMEOUT_S)
    assert problem.startswith(f"Nothing answers on 127.0.0.1:{port} (")


@pytest.mark.parametrize("body", [b'{"fine": true}', b"[]", b"\xff"])
def test_another_server_answers(body: bytes) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer)
        thread.start()
        problems = probe_health(HttpSettings(enabled=True, port=listening.getsockname()[1]), TIMEOUT_S)
        thread.join()
    assert [sentence.partition("on ")[0] for sentence in problems] == ["The server "]


def test_settings_without_http_are_refused() -> None:
    for settings in (HttpSettings(), HttpSettings(enabled=True, port=0)):
        with pytest.raises(SettingsWrong, match=r"set http\.enabled"):
            probe_health(settings, TIMEOUT_S)


def test_the_exit_status_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(app, ["health"]).exit_code == 64
    settings, why = HttpSettings(port=0), ""
    monkeypatch.setenv("GLIONODE_HTTP__ENABLED", "true")
    with http_server(settings, make_app({"disk": lambda: why or None}, CollectorRegistry()), 1) as url:
        monkeypatch.setenv("GLIONODE_HTTP__PORT", str(urlsplit(url).port))
        result = CliRunner().invoke(app, ["health", "--timeout", str(TIMEOUT_S)])
        assert (result.exit_code, result.output) == (0, "The node is healthy.\n")
        why = "5 MiB are free."
        result = CliRunner().invoke(app, ["health", "--timeout", str(TIMEOUT_S)])
        assert (result.exit_code, result.output) == (1, "disk: 5 MiB are free.\n")
