"""STOW-RS: what arrives, what each answer comes to, who is let in, and what is said where nothing works."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugin.delivery.deliverer import echo
from plugin.delivery.sender import NotSent, Outcome, Outgoing, Sent
from plugin.delivery.stow_sender import StowSender
from plugin.errors import PeerFailed
from plugin.settings.destinations import StowDestinationSettings
from tests.support.certificates import Authority
from tests.support.fake_stow_server import WebArchive
from tests.support.node import write_outgoing

TOKEN = "s3cret-token"


@pytest.fixture
def web() -> Iterator[WebArchive]:
    archive = WebArchive()
    yield archive
    archive.stop()


@pytest.fixture
def objects(tmp_path: Path) -> list[Outgoing]:
    """Three objects of a study, as the outbox has them."""
    return write_outgoing(tmp_path / "results", 3)


def destination(web: WebArchive, **keys: object) -> StowDestinationSettings:
    return StowDestinationSettings.model_validate({"name": "web", "url": web.url, **keys})


def sent(web: WebArchive, objects: list[Outgoing], **keys: object) -> list[Outcome]:
    """What becomes of objects, in their order."""
    found = {
        each.entry.sop_instance_uid: outcome for each, outcome in StowSender(destination(web, **keys), 5).send(objects)
    }
    return [found[each.entry.sop_instance_uid] for each in objects]


def uid(outgoing: Outgoing) -> str:
    return outgoing.entry.sop_instance_uid


def test_objects_arrive_byte_for_byte_in_one_request(web: WebArchive, objects: list[Outgoing]) -> None:
    assert sent(web, objects) == [Sent()] * 3
    assert web.stored == {uid(each): Path(each.entry.path).read_bytes() for each in objects}
    assert web.requests == ["POST /dicom-web/studies"]


def test_many_objects_go_in_requests_of_bounded_size(
    web: WebArchive, objects: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = sum(Path(each.entry.path).stat().st_size for each in objects[:2])
    monkeypatch.setattr("plugin.delivery.stow_sender._LARGEST_REQUEST", two)
    assert sent(web, objects) == [Sent()] * 3
    monkeypatch.setattr("plugin.delivery.stow_sender._LARGEST_REQUEST", 1)
    assert sent(web, objects) == [Sent()] * 3
    assert len(web.requests) == 2 + 3


def test_each_object_has_its_own_answer(web: WebArchive, objects: list[Outgoing]) -> None:
    web.reasons = {uid(objects[1]): 0xA700}
    assert sent(web, objects) == [Sent(), NotSent("it refused the object with reason 0xA700"), Sent()]
    web.reasons = {uid(each): 0x0124 for each in objects}
    assert sent(web, objects) == [NotSent("it refused the object with reason 0x0124")] * 3


def test_one_that_spoils_a_request_keeps_no_other_back(web: WebArchive, objects: list[Outgoing]) -> None:
    web.spoilt_by = {uid(objects[0])}
    assert sent(web, objects) == [NotSent("it responded with HTTP 400"), Sent(), Sent()]


def test_one_whose_file_is_gone_keeps_no_other_back(web: WebArchive, objects: list[Outgoing]) -> None:
    Path(objects[2].entry.path).unlink()
    first, second, third = sent(web, objects)
    assert (first, second) == (Sent(), Sent())
    assert isinstance(third, NotSent)
    assert third.reason.endswith("is missing")


@pytest.mark.parametrize("status", [307, 404, 429, 503])
def test_what_says_nothing_about_the_objects_is_a_failure_of_the_peer(
    web: WebArchive, objects: list[Outgoing], status: int
) -> None:
    web.statuses = [status]
    with pytest.raises(PeerFailed, match=f"HTTP {status}"):
        sent(web, objects)
    assert len(web.requests) == 1, "a redirection is not followed with the token in hand"


def test_who_may_send(
    web: WebArchive, objects: list[Outgoing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text(f"{TOKEN}\n")
    password.write_text("Aladdin's: ü")
    monkeypatch.setenv("SITE_TOKEN", TOKEN)
    web.authorization = f"Bearer {TOKEN}"
    for keys in ({"token_file": str(token)}, {"token_variable": "SITE_TOKEN"}):
        assert sent(web, objects, **keys) == [Sent()] * 3
    web.authorization = "Basic dXNlcjpBbGFkZGluJ3M6IMO8"  # RFC 7617: base64 of user:password in UTF-8
    assert sent(web, objects, user="user", password_file=str(password)) == [Sent()] * 3
    with pytest.raises(PeerFailed, match="HTTP 401") as raised:
        sent(web, objects, token_file=str(token))
    assert TOKEN not in str(raised.value)
    with pytest.raises(PeerFailed, match=r"destinations\.web\.token cannot be read from the file"):
        sent(web, objects, token_file=str(tmp_path / "absent"))


def test_the_certificate_is_checked(objects: list[Outgoing], tmp_path: Path, program: Callable[[str], str]) -> None:
    authority = Authority(program, tmp_path / "ours")
    other = Authority(program, tmp_path / "other")
    own = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    web = WebArchive(context)
    try:
        assert sent(web, objects, tls_ca=authority.certificate) == [Sent()] * 3
        with pytest.raises(PeerFailed, match="its TLS certificate is not accepted"):
            sent(web, objects, tls_ca=other.certificate)
    finally:
        web.stop()
    assert len(web.requests) == 1


def test_echo_says_how_it_is(web: WebArchive) -> None:
    assert echo(destination(web), "NODE").message == "it answers"
    assert web.requests == ["GET /dicom-web/studies"]
    for status, answered, message in (
        (204, True, "it answers"),
        (405, True, "does not search"),
        (404, False, "HTTP 404; check url"),
        (403, False, "HTTP 403; check its token"),
        (400, False, "HTTP 400; check url"),
    ):
        web.statuses = [status]
        found = echo(destination(web), "NODE")
        assert (found.answered, message in found.message) == (answered, True)


def test_a_server_that_is_away_is_said_to_be(web: WebArchive) -> None:
    gone = WebArchive()
    gone.stop()
    found = echo(destination(gone), "NODE")
    assert (found.answered, found.message) == (False, f"the request to {gone.url} failed (Connection refused)")
