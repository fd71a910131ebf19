"""`glionode health`: what a container's health check is told, over plain HTTP and over TLS."""

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
from plugin.node.health_probe import what_is_wrong
from plugin.settings.sections import HttpSettings
from tests.support.certificates import Authority

PATIENCE_S = 20.0


def asked(questions: dict[str, Any], host: str = "127.0.0.1", **more: object) -> tuple[str, ...]:
    """What is said about a server on loopback with these questions, by settings that name its port and `host`."""
    settings = HttpSettings.model_validate({"enabled": True, "port": 0, **more})
    with http_server(settings, make_app(questions, CollectorRegistry()), 1) as url:
        return what_is_wrong(settings.model_copy(update={"port": urlsplit(url).port, "host": host}), PATIENCE_S)


def test_all_is_well() -> None:
    assert asked({"disk": lambda: None}) == ()
    assert asked({"disk": lambda: None}, host="0.0.0.0") == ()


def test_what_is_not_well_is_named() -> None:
    assert asked({"disk": lambda: None, "start": lambda: "It is starting."}) == ("start: It is starting.",)


def test_over_tls(program: Callable[[str], str], tmp_path: Path) -> None:
    """With a certificate for a name that is not the address that is asked."""
    mine = Authority(program, tmp_path / "authority").sign("node", subject="DNS:node.example")
    assert asked({"disk": lambda: None}, tls_certificate=mine.certificate, tls_key=mine.key) == ()


def test_nothing_answers() -> None:
    with closing(socket.socket()) as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (said,) = what_is_wrong(HttpSettings(enabled=True, port=port), PATIENCE_S)
    assert said.startswith(f"Nothing answers on 127.0.0.1:{port} (")


@pytest.mark.parametrize("body", [b'{"fine": true}', b"[]", b"\xff"])
def test_somebody_else_answers(body: bytes) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer)
        thread.start()
        said = what_is_wrong(HttpSettings(enabled=True, port=listening.getsockname()[1]), PATIENCE_S)
        thread.join()
    assert [sentence.partition("on ")[0] for sentence in said] == ["What answers "]


def test_nothing_to_ask() -> None:
    for settings in (HttpSettings(), HttpSettings(enabled=True, port=0)):
        with pytest.raises(SettingsWrong, match=r"set http\.enabled"):
            what_is_wrong(settings, PATIENCE_S)


def test_the_command_says_it_by_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(app, ["health"]).exit_code == 64
    settings, why = HttpSettings(port=0), ""
    monkeypatch.setenv("GLIONODE_HTTP__ENABLED", "true")
    with http_server(settings, make_app({"disk": lambda: why or None}, CollectorRegistry()), 1) as url:
        monkeypatch.setenv("GLIONODE_HTTP__PORT", str(urlsplit(url).port))
        told = CliRunner().invoke(app, ["health", "--timeout", str(PATIENCE_S)])
        assert (told.exit_code, told.output) == (0, "All is well.\n")
        why = "5 MiB are free."
        told = CliRunner().invoke(app, ["health", "--timeout", str(PATIENCE_S)])
        assert (told.exit_code, told.output) == (1, "disk: 5 MiB are free.\n")
