"""Sending by STOW-RS: stored bytes, the outcome of each object, authentication, and failures of the server."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from plugin.delivery.deliverer import echo
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outgoing, Sent
from plugin.delivery.stow_sender import StowSender
from plugin.errors import PeerFailed
from plugin.settings.destinations import StowDestinationSettings
from tests.support.certificates import Authority
from tests.support.fake_http_server import DROPPED
from tests.support.fake_stow_server import LOGIN_PAGE, FakeStowServer
from tests.support.node import make_instance, new_study_uid, write_instance, write_outgoing

TOKEN = "s3cret-token"


@pytest.fixture
def server() -> Iterator[FakeStowServer]:
    made = FakeStowServer()
    yield made
    made.stop()


@pytest.fixture
def objects(tmp_path: Path) -> list[Outgoing]:
    """Return three objects of a study, as the outbox has them."""
    return write_outgoing(tmp_path / "results", 3)


def destination(server: FakeStowServer, **keys: object) -> StowDestinationSettings:
    return StowDestinationSettings.model_validate({"name": "web", "url": server.url, **keys})


def sent(server: FakeStowServer, objects: list[Outgoing], **keys: object) -> list[Outcome]:
    """Send objects; return their outcomes in the order of the objects."""
    found = {
        each.entry.sop_instance_uid: outcome
        for each, outcome in StowSender(destination(server, **keys), 5).send(objects)
    }
    return [found[each.entry.sop_instance_uid] for each in objects]


def uid(outgoing: Outgoing) -> str:
    return outgoing.entry.sop_instance_uid


def test_objects_are_stored_byte_for_byte_in_one_request(server: FakeStowServer, objects: list[Outgoing]) -> None:
    assert sent(server, objects) == [Sent()] * 3
    assert server.stored == {uid(each): Path(each.entry.path).read_bytes() for each in objects}
    assert server.requests == ["POST /dicom-web/studies"]


def test_requests_are_of_bounded_size(
    server: FakeStowServer, objects: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = sum(Path(each.entry.path).stat().st_size for each in objects[:2])
    monkeypatch.setattr("plugin.delivery.stow_sender._LARGEST_REQUEST", two)
    assert sent(server, objects) == [Sent()] * 3
    monkeypatch.setattr("plugin.delivery.stow_sender._LARGEST_REQUEST", 1)
    assert sent(server, objects) == [Sent()] * 3
    assert len(server.requests) == 2 + 3


def test_each_object_has_its_own_outcome(server: FakeStowServer, objects: list[Outgoing]) -> None:
    server.reasons = {uid(objects[1]): 0xA700}
    assert sent(server, objects) == [Sent(), NotSent("it refused the object with reason 0xA700"), Sent()]
    server.reasons = {uid(each): 0x0124 for each in objects}
    assert sent(server, objects) == [NotSent("it refused the object with reason 0x0124")] * 3


HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    "response",
    [(200, LOGIN_PAGE, HTML), (200, b"", {}), (204, b"", {}), (202, b"{}", {}), (201, b"", {}), (409, b"", {})],
)
def test_a_response_that_names_no_object_is_not_believed(
    response: tuple[int, bytes, dict[str, str]], server: FakeStowServer, objects: list[Outgoing]
) -> None:
    server.posts, server.keeps = [response], False
    for outcome in sent(server, objects):
        assert isinstance(outcome, NotSent)
        assert f"HTTP {response[0]}, naming no such object, and a search does not find it" in outcome.reason
        assert not outcome.final
    assert sent(server, objects) == [Sent()] * 3, "they are sent again"


@pytest.mark.parametrize("response", [(200, LOGIN_PAGE, HTML), (200, b"", {}), (204, b"", {})])
def test_an_object_that_a_search_finds_is_stored(
    response: tuple[int, bytes, dict[str, str]], server: FakeStowServer, objects: list[Outgoing]
) -> None:
    server.posts = [response]
    says = f"it responded with HTTP {response[0]}, naming no such object"
    assert sent(server, objects) == [Sent(f"{says}, and a search finds the object there")] * 3
    study = dcmread(objects[0].entry.path).StudyInstanceUID
    assert f"GET /dicom-web/studies/{study}/instances?SOPInstanceUID={uid(objects[0])}&limit=2" in server.requests


def test_a_login_page_in_place_of_a_search_finds_nothing(server: FakeStowServer, objects: list[Outgoing]) -> None:
    server.posts, server.searches = [(200, LOGIN_PAGE, HTML)], False
    for outcome in sent(server, objects):
        assert isinstance(outcome, NotSent)
        assert "a search gets no DICOM JSON" in outcome.reason
    assert "login page" in echo(destination(server), "NODE").message
    assert not echo(destination(server), "NODE").answered


@pytest.mark.parametrize("status", [403, 404, 405, 500])
def test_a_server_that_cannot_be_searched_has_nothing_for_certain(
    status: int, server: FakeStowServer, objects: list[Outgoing]
) -> None:
    sender = StowSender(destination(server), 5)
    server.posts = [(200, b"", {})]
    outcomes = sender.send(objects[:1])
    server.search = lambda path: (status, b"", {})  # type: ignore[method-assign]
    ((_, outcome),) = list(outcomes)
    assert isinstance(outcome, NotSent)
    assert "a search " in outcome.reason


def test_an_object_whose_file_cannot_be_read_is_not_searched_for(
    server: FakeStowServer, objects: list[Outgoing]
) -> None:
    Path(objects[0].entry.path).write_bytes(b"no DICOM at all")
    server.posts, server.keeps = [(200, b"", {})] * 2, False
    first, second = sent(server, objects[:2])
    assert isinstance(first, NotSent)
    assert isinstance(second, NotSent)
    assert "cannot be read to search for it" in first.reason


def test_a_duplicate_is_stored_where_a_search_finds_it(server: FakeStowServer, objects: list[Outgoing]) -> None:
    assert sent(server, objects[:1]) == [Sent()]
    server.reasons = {uid(each): 0x0111 for each in objects[:2]}
    first, second = sent(server, objects[:2])
    assert isinstance(first, Sent)
    assert isinstance(second, NotSent)
    assert "0x0111" in second.reason
    assert "does not find it" in second.reason


def test_a_limit_on_size_stops_only_what_is_larger_and_names_the_remedy(
    server: FakeStowServer, objects: list[Outgoing], tmp_path: Path
) -> None:
    large = make_instance(new_study_uid())
    large.PixelData = bytes(200_000)
    path = write_instance(large, tmp_path / "large")
    entry = replace(objects[0].entry, sop_instance_uid=str(large.SOPInstanceUID), path=str(path))
    too_large = replace(objects[0], entry=entry)
    server.largest = 100_000
    first, *others = sent(server, [too_large, *objects])
    assert others == [Sent()] * 3
    assert isinstance(first, NotSent)
    for part in ("HTTP 413", "0.2 MB", "client_max_body_size of nginx", "max_bytes"):
        assert part in first.reason
    assert "Apache" not in first.reason, "the proxy says what it is"
    server.requests.clear()
    assert sent(server, objects, max_bytes=1) == [Sent()] * 3
    assert len(server.requests) == 3


def test_an_object_that_fails_its_request_delays_no_other(server: FakeStowServer, objects: list[Outgoing]) -> None:
    server.failing_uids = {uid(objects[0])}
    assert sent(server, objects) == [NotSent("it responded with HTTP 400"), Sent(), Sent()]


def test_an_object_whose_file_is_missing_delays_no_other(server: FakeStowServer, objects: list[Outgoing]) -> None:
    Path(objects[2].entry.path).unlink()
    first, second, third = sent(server, objects)
    assert (first, second) == (Sent(), Sent())
    assert isinstance(third, NotSent)
    assert third.reason.endswith("is missing")


@pytest.mark.parametrize("status", [307, 404, 429])
def test_a_status_that_says_nothing_about_the_objects_is_a_failure_of_the_peer(
    server: FakeStowServer, objects: list[Outgoing], status: int
) -> None:
    server.statuses = [status]
    with pytest.raises(PeerFailed, match=f"HTTP {status}"):
        sent(server, objects)
    assert len(server.requests) == 1, "a redirection is not followed with the token"


@pytest.mark.parametrize("status", [403, 408, 502, 503, 504, DROPPED])
def test_a_request_that_gets_no_answer_is_told_from_a_server_that_is_away(
    server: FakeStowServer, objects: list[Outgoing], status: int
) -> None:
    server.statuses = [status]
    with pytest.raises(BrokenOff) as broken_off:
        sent(server, objects)
    assert broken_off.value.objects == tuple(objects), "it answers a search, so one of them is the reason"
    server.statuses = [status, status]
    with pytest.raises(PeerFailed) as raised:
        sent(server, objects)
    assert not isinstance(raised.value, BrokenOff)
    assert sent(server, objects) == [Sent()] * 3


def test_a_search_that_gets_no_answer_delays_no_other(server: FakeStowServer, objects: list[Outgoing]) -> None:
    server.reasons = {uid(objects[0]): 0x0111}
    server.search = lambda _: (DROPPED, b"", {})  # type: ignore[method-assign]
    first, *others = sent(server, objects)
    assert others == [Sent()] * 2
    assert isinstance(first, NotSent)
    assert "a search fails" in first.reason


def test_the_node_authenticates_with_token_or_password(
    server: FakeStowServer, objects: list[Outgoing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text(f"{TOKEN}\n")
    password.write_text("Aladdin's: ü")
    monkeypatch.setenv("SITE_TOKEN", TOKEN)
    server.authorization = f"Bearer {TOKEN}"
    for keys in ({"token_file": str(token)}, {"token_variable": "SITE_TOKEN"}):
        assert sent(server, objects, **keys) == [Sent()] * 3
    server.authorization = "Basic dXNlcjpBbGFkZGluJ3M6IMO8"  # RFC 7617: base64 of user:password in UTF-8
    assert sent(server, objects, user="user", password_file=str(password)) == [Sent()] * 3
    with pytest.raises(PeerFailed, match="HTTP 401") as raised:
        sent(server, objects, token_file=str(token))
    assert TOKEN not in str(raised.value)
    with pytest.raises(PeerFailed, match=r"destinations\.web\.token cannot be read from the file"):
        sent(server, objects, token_file=str(tmp_path / "absent"))


def test_the_certificate_of_the_server_is_checked(
    objects: list[Outgoing], tmp_path: Path, program: Callable[[str], str]
) -> None:
    authority = Authority(program, tmp_path / "ours")
    other = Authority(program, tmp_path / "other")
    own = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    server = FakeStowServer(context)
    try:
        assert sent(server, objects, tls_ca=authority.certificate) == [Sent()] * 3
        with pytest.raises(PeerFailed, match="its TLS certificate is not accepted"):
            sent(server, objects, tls_ca=other.certificate)
    finally:
        server.stop()
    assert len(server.requests) == 1


def test_echo_says_what_the_server_responds(server: FakeStowServer) -> None:
    assert echo(destination(server), "NODE").message == "it answers"
    assert [request.partition("?")[0] for request in server.requests] == ["GET /dicom-web/studies"]
    for status, answered, message in (
        (204, True, "it answers"),
        (405, True, "does not search"),
        (404, False, "HTTP 404; check url"),
        (403, False, "HTTP 403; check its token"),
        (400, False, "HTTP 400; check url"),
    ):
        server.statuses = [status]
        found = echo(destination(server), "NODE")
        assert (found.answered, message in found.message) == (answered, True)


def test_echo_says_that_a_server_is_unreachable(server: FakeStowServer) -> None:
    gone = FakeStowServer()
    gone.stop()
    found = echo(destination(gone), "NODE")
    assert (found.answered, found.message) == (False, f"the request to {gone.url} failed (Connection refused)")
