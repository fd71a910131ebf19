"""Refused peers and HTTP access are rows of the audit log: one for each peer, kind and hour, with how often."""

import http.client
import logging
import threading

import pytest
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry
from psycopg_pool import ConnectionPool

from plugin.database import access_audit
from plugin.database.access_audit import AccessAudit
from plugin.database.audit_log import AuditEvent, Peer
from plugin.database.pool import Database
from plugin.http.auth import RequireToken
from plugin.http.server import http_server, make_app
from plugin.settings.sections import HttpSettings
from tests.support.listener import MakeListener
from tests.support.node import make_instance, new_study_uid, query, send, wait_until

REFUSED, HTTP = AuditEvent.REFUSED, AuditEvent.HTTP
PEER = Peer("STRANGER", "192.0.2.9")
WHY = "calling AE title not allowed"


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    """A command that ran before in this process may have left another one."""
    caplog.set_level(logging.WARNING)


def rows(database: Database) -> list[tuple[str, str, str, str]]:
    return query(database, "SELECT what, peer_ae_title, peer_address, detail FROM glionode_audit ORDER BY id")


def test_a_peer_that_tries_again_and_again_is_two_rows_an_hour(database: Database) -> None:
    audit = AccessAudit(database.pool)
    for _ in range(500):
        audit.note(REFUSED, PEER, WHY)
        audit.write(hour_is_over=False)
    first = ("refused", "STRANGER", "192.0.2.9", WHY)
    assert rows(database) == [first]
    audit.write(hour_is_over=True)
    assert rows(database) == [first, (*first[:3], f"{WHY}; 499 more times within the hour")]
    audit.write(hour_is_over=True)
    assert len(rows(database)) == 2, "an hour in which nothing came"
    audit.note(REFUSED, PEER, WHY)
    audit.write(hour_is_over=False)
    assert rows(database)[2:] == [first], "the next hour is another one"


def test_a_peer_that_calls_itself_differently_each_time_does_not_fill_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_audit, "_MOST_KINDS", 5)
    audit = AccessAudit(database.pool)
    for number in range(100):
        audit.note(REFUSED, Peer(f"AE{number}", "192.0.2.9"), WHY)
    audit.write(hour_is_over=True)
    found = rows(database)
    assert len(found) == 5 + 2
    assert found[-1][3] == "5 kinds in this hour; others are only counted; 94 more times within the hour"


def test_what_the_database_could_not_take_is_written_later(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    away = ConnectionPool("host=127.0.0.1 port=1 dbname=none", open=False)
    audit = AccessAudit(away)
    audit.note(REFUSED, PEER, WHY)
    for hour_is_over in (False, True, False):
        audit.write(hour_is_over)
    assert len(caplog.messages) == 1
    audit._pool = database.pool
    stop = threading.Event()
    stop.set()
    audit.run(stop)
    assert [row[3] for row in rows(database)] == [WHY]


def test_the_listener_tells_whom_it_refused(make_listener: MakeListener) -> None:
    found = make_listener(calling_ae_titles=("MR1",))
    assert not send_refused(found.port)
    wait_until(lambda: found.refused, "the refusal is told")
    assert found.refused == [(Peer("SCANNER", "127.0.0.1"), WHY)]


def send_refused(port: int) -> bool:
    try:
        send(port, make_instance(new_study_uid()))
    except AssertionError:
        return False
    return True


def test_http_access_is_told_by_address_route_and_status_without_what_a_path_holds() -> None:
    noted: list[tuple[str, str]] = []
    router = APIRouter()

    @router.get("/api/studies/{study}", dependencies=[Depends(RequireToken("a-token-of-the-tests"))])
    def study(study: str) -> str:
        return study

    app = make_app({}, CollectorRegistry(), router)
    settings = HttpSettings(enabled=True, port=0)
    with http_server(settings, app, note_access=lambda address, what: noted.append((address, what))) as url:
        host = url.removeprefix("http://")
        for method, path, headers in (
            ("GET", "/api/studies/1.2.3?name=MARKER", {"Authorization": "Bearer a-token-of-the-tests"}),
            ("GET", "/api/studies/1.2.3", {}),
            ("GET", "/MARKER", {}),
            ("BREW", "/MARKER", {}),
            ("GET", "/api/studies/1.2.3", {"Host": "evil.example"}),
            ("GET", "/health", {}),
            ("GET", "/metrics", {}),
        ):
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.request(method, path, headers=headers)
            connection.getresponse().read()
            connection.close()
    assert noted == [
        ("127.0.0.1", "GET /api/studies/{study} answered with 200"),
        ("127.0.0.1", "GET /api/studies/{study} refused with 401"),
        ("127.0.0.1", "GET of no route refused with 404"),
        ("127.0.0.1", "another method of no route refused with 404"),
        ("127.0.0.1", "GET of no route refused with 421"),
    ]
