"""The HTTP client under all others: what it sends where, what it retries, and where it stops."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.http.client import Access, AccessDenied, HttpClient, NotFound, RequestFailed, check_status
from plugin.settings.secrets import Credentials
from tests.support.scripted_server import ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def client(server: ScriptedServer, token: str = "", **limits: float) -> HttpClient:
    access = Access(None, Credentials(token=token))
    return HttpClient(server.url, lambda: access, 5.0, **limits)  # type: ignore[arg-type]


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {line}", "Content-Length: 0", *headers, "", "")).encode()


def test_a_redirect_is_not_followed_with_the_token(serve: Callable[..., ScriptedServer]) -> None:
    elsewhere = serve(OK)
    server = serve(status("307 Elsewhere", f"Location: {elsewhere.url}/x"))
    with client(server, "s3cret") as sender:
        assert sender.request("GET", "/x").status == 307
    assert b"Bearer s3cret" in server.requests[0]
    assert elsewhere.requests == []


def test_proxies_and_secrets_of_the_environment_are_not_used(
    serve: Callable[..., ScriptedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(OK), serve(OK)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password theirs\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    with client(server) as sender:
        assert sender.request("GET", "/x").json() == {}
    assert proxy.requests == []
    assert b"authorization" not in server.requests[0].lower()


def test_a_body_breaks_off_where_the_lease_to_send_it_is_over(
    serve: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(OK)
    monkeypatch.setattr("plugin.http.client.lease_is_over", lambda: next(over))
    over = iter((False, True))
    parts = (part for part in (b"first", b"other"))
    with client(server) as sender, pytest.raises(RequestFailed, match="broken off"):
        sender.request("POST", "/x", parts, {"Content-Length": "10"})
    assert not any(b"other" in each for each in server.requests)


def test_a_response_without_an_end_is_not_read_for_ever(serve: Callable[..., ScriptedServer]) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + bytes(5000))
    with client(server, largest_body=4000) as sender, pytest.raises(RequestFailed, match="does not end"):
        sender.request("GET", "/x")


def test_a_connection_is_kept_open_between_requests_and_not_reused_too_late(
    serve: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(OK, keep_open=True)
    with client(server, keep_alive_s=600.0) as sender:
        sender.request("GET", "/1")
        sender.request("GET", "/2")
        assert server.connections == 1
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + 601)
        sender.request("GET", "/3")
        assert server.connections == 2


@pytest.mark.parametrize(
    "failure",
    [status("500 Broken"), status("503 Busy"), b"no HTTP\r\n\r\n", OK.replace(b"{}", b"{"), OK.replace(b"{}", b"{]")],
    ids=["500", "503", "not HTTP", "the body stops", "not JSON"],
)
def test_what_may_pass_is_retried(serve: Callable[..., ScriptedServer], failure: bytes) -> None:
    server = serve(failure, OK)
    with client(server) as sender:

        def attempt() -> object:
            response = sender.request("GET", "/x")
            check_status(response.status)
            return response.json()

        assert sender.retry("/x", attempt) == {}
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("line", "error"), [("401 Who", AccessDenied), ("403 No", AccessDenied), ("404 None", NotFound)]
)
def test_what_does_not_pass_is_not_retried(
    serve: Callable[..., ScriptedServer], line: str, error: type[Exception]
) -> None:
    server = serve(status(line))
    with client(server) as sender, pytest.raises(error, match=line[:3]):
        sender.retry("/x", lambda: check_status(sender.request("GET", "/x").status))
    assert len(server.requests) == 1


def test_retries_end_when_patience_does(serve: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server, pauses, now = serve(status("503 Busy")), list[float](), [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("plugin.http.client.time.sleep", sleep)
    monkeypatch.setattr("plugin.http.client.time.monotonic", lambda: now[0])
    with client(server) as sender, pytest.raises(RequestFailed, match="HTTP 503"):
        sender.retry("/x", lambda: check_status(sender.request("GET", "/x").status))
    assert pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert 25 < sum(pauses) <= 30


def test_secrets_are_read_anew_for_a_new_connection(serve: Callable[..., ScriptedServer]) -> None:
    server, tokens = serve(OK, keep_open=True), iter(("first", "second"))
    sender = HttpClient(server.url, lambda: Access(None, Credentials(token=next(tokens))), 5.0)
    for _ in range(2):
        sender.request("GET", "/x")
    sender.close()
    sender.request("GET", "/x")
    sender.close()
    assert [b"Bearer first" in each for each in server.requests] == [True, True, False]
    assert b"Bearer second" in server.requests[2]


def test_no_text_of_the_server_gets_into_an_error(serve: Callable[..., ScriptedServer]) -> None:
    server = serve(b"DOE^JOHN\r\n\r\n")
    with client(server) as sender, pytest.raises(RequestFailed) as raised:
        sender.request("GET", "/x")
    assert "DOE" not in str(raised.value)
