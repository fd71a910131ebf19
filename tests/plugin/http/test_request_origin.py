"""Requests that pages of other sites send are refused: DNS rebinding, cross-site requests; and what is ours is not."""

import http.client
import logging
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry

from plugin.http.request_origin import check_origin, own_names
from plugin.http.server import http_server, make_app
from plugin.logs import RepeatedRefusals
from plugin.settings.sections import HttpSettings

NAMES = frozenset(("localhost", "node.example"))
SERVER = "192.0.2.1"


def status(scheme: str = "http", server: str = SERVER, **headers: str) -> int:
    """Return the status of the refusal, 200 if there is none."""
    found = check_origin({name.replace("_", "-"): value for name, value in headers.items()}, server, NAMES, scheme)
    return found.status if found is not None else 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LocalHost:8114", 200),
        ("127.0.0.1:8114", 200),
        ("127.9.9.9", 200),
        ("[::1]:8114", 200),
        ("node.example", 200),
        ("Node.Example:1", 200),
        (SERVER, 200),
        (f"{SERVER}:8114", 200),
        ("evil.example", 421),
        ("node.example.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.localhost", 421),
        ("localhost.", 421),
        ("192.0.2.2", 421),
        ("0.0.0.0:8114", 421),
        ("[::]:8114", 421),
        ("", 421),
        ("localhost, evil.example", 421),
        ("localhost@evil.example", 421),
        ("evil.example#localhost", 421),
        ("[localhost]", 421),
        ("node.example:8114:1", 421),
    ],
)
def test_host_is_a_name_of_the_server(host: str, expected: int) -> None:
    assert status(host=host) == expected


def test_the_address_of_a_dual_stack_socket() -> None:
    assert status(server="::ffff:192.0.2.1", host="192.0.2.1:8114") == 200
    assert status(server="fe80::1%eth0", host="[fe80::1]:8114") == 200
    assert status(server="::ffff:192.0.2.1", host="192.0.2.2") == 421
    assert status() == 421, "HTTP/1.0 may come without Host, and no browser sends it so"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://localhost:8114"}, 200),
        ({"origin": "https://localhost:8114"}, 200),
        ({"origin": "https://localhost:8114", "scheme": "https"}, 200),
        ({"origin": "http://localhost:8114", "scheme": "https"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8114.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://localhost:8114, http://evil.example"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "none, cross-site"}, 403),
        ({"origin": "http://localhost:8114", "sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str], expected: int) -> None:
    assert status(host="localhost:8114", **headers) == expected


def test_the_names_of_a_server() -> None:
    names = own_names(HttpSettings(host="0.0.0.0", allowed_hosts=["Node.Example"]))
    assert names == {"localhost", "node.example", socket.gethostname().lower()}
    assert "192.0.2.1" in own_names(HttpSettings(host="192.0.2.1"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with a route that would let any page read it."""
    routes = APIRouter()

    @routes.post("/changes")
    def change() -> Response:
        return Response(b"done", headers={"Access-Control-Allow-Origin": "*", "ACCESS-CONTROL-MAX-AGE": "9"})

    with http_server(HttpSettings(port=0), make_app({}, CollectorRegistry(), routes)) as served:
        yield served


def ask(url: str, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/metrics"), ("POST", "/changes"), ("GET", "/x")]
)
def test_every_route_is_checked(url: str, method: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    def answers(**headers: str) -> int:
        return ask(url, method, path, **headers).status

    assert answers(Host="evil.example") == 421
    assert answers(Origin="http://evil.example") == 403
    assert answers(Sec_Fetch_Site="cross-site") == 403
    assert answers(Origin=url) in (200, 404)
    assert "evil.example" not in caplog.text


def test_no_response_lets_other_sites_read_it(url: str) -> None:
    answer: Any = ask(url, "POST", "/changes", Origin=url)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    preflight = ask(url, "OPTIONS", "/changes", Access_Control_Request_Method="POST", Origin="http://evil.example")
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (403, None)


def test_the_log_has_a_line_when_an_address_begins_to_be_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now = 0.0
    log = RepeatedRefusals(logging.getLogger("tests"), "refused HTTP from", lambda: now)
    for _ in range(50):
        log.refused("192.0.2.7", "no valid bearer token")
    log.refused("192.0.2.8", "no valid bearer token")
    now = 601.0
    log.refused("192.0.2.7", "no valid bearer token")
    assert [record.getMessage().removeprefix("refused HTTP from ") for record in caplog.records] == [
        "192.0.2.7: no valid bearer token",
        "192.0.2.8: no valid bearer token",
        "192.0.2.7: no valid bearer token (49 more since the last line)",
    ]
