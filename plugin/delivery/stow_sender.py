"""Send objects to a DICOMweb server by STOW-RS (PS3.18 10.5)."""

import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pydicom.uid import generate_uid

from pipeline.errors import SettingsWrong
from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcomes, Outgoing
from plugin.delivery.stow_response import STATUSES_WITH_OUTCOMES, read_outcome
from plugin.errors import PeerFailed
from plugin.http.client import AccessDenied, HttpClient, RequestFailed, Response, read_access
from plugin.settings.destinations import StowDestinationSettings

_LARGEST_REQUEST = 64 << 20
"""Bytes of objects in one request; a larger object goes alone."""
_MOST_OBJECTS = 20
_LARGEST_RESPONSE = 4 << 20
_CHUNK = 1 << 20
_ACCEPT = "application/dicom+json"
_UNAVAILABLE = (404, 408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about the objects."""
_NO_SEARCH = (405, 406, 501)


class StowSender:
    """Sends to one server, over one connection per call. Retries nothing: the outbox does."""

    def __init__(self, destination: StowDestinationSettings, timeout_s: float) -> None:
        self._destination = destination
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """The URL of the server; it has no AE title."""
        return Peer("", self._destination.url)

    def send(self, objects: Sequence[Outgoing]) -> Outcomes:
        """Send objects in requests of bounded size. Raises PeerFailed."""
        with self._connect() as client:
            for group in _groups(objects):
                yield from self._send_group(client, group)

    def echo(self) -> str:
        """Search for a study that does not exist (QIDO-RS), so that no patient data comes back. Raises PeerFailed."""
        with self._connect() as client:
            query = f"StudyInstanceUID={generate_uid(prefix=None)}&limit=1"
            status = self._exchange(client, "GET", f"/studies?{query}").status
        if status in (200, 204):
            return "it answers"
        if status in _NO_SEARCH:
            return "it answers, and does not search; whether it stores objects shows when one is sent"
        raise PeerFailed(f"it responded with HTTP {status}; check url")

    def _send_group(self, client: HttpClient, group: tuple[Outgoing, ...]) -> Outcomes:
        readable = tuple(each for each in group if Path(each.entry.path).is_file())
        for each in group:
            if each not in readable:
                yield each, NotSent(f"the file {each.entry.path} is missing")
        if not readable:
            return
        response = self._post(client, readable)
        if response.status in STATUSES_WITH_OUTCOMES:
            for each in readable:
                yield each, read_outcome(response.status, response.body, each.entry.sop_instance_uid)
        elif len(readable) == 1:
            yield readable[0], NotSent(f"it responded with HTTP {response.status}")
        else:  # one of them may be the reason
            for each in readable:
                yield from self._send_group(client, (each,))

    def _post(self, client: HttpClient, objects: tuple[Outgoing, ...]) -> Response:
        boundary = uuid.uuid4().hex
        paths = [Path(each.entry.path) for each in objects]
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + path.stat().st_size + 2 for path in paths) + len(tail)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
        }
        return self._exchange(client, "POST", "/studies", _multipart(paths, head, tail), headers)

    def _exchange(
        self,
        client: HttpClient,
        method: str,
        path: str,
        body: Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        try:
            response = client.request(method, path, body, {"Accept": _ACCEPT, **(headers or {})})
        except AccessDenied as exc:
            raise PeerFailed(f"it responded with {exc}; check its token, or user and password") from exc
        except RequestFailed as exc:
            raise PeerFailed(f"the request to {self._destination.url} failed ({exc})") from exc
        except SettingsWrong as exc:
            raise PeerFailed(str(exc)) from exc
        if response.status in _UNAVAILABLE or 300 <= response.status < 400:
            raise PeerFailed(f"it responded with HTTP {response.status}; check url, and the server")
        return response

    def _connect(self) -> HttpClient:
        access = partial(read_access, self._destination, self._destination.section_name)
        return HttpClient(self._destination.url, access, self._timeout_s, largest_body=_LARGEST_RESPONSE)


def _groups(objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, ...]]:
    """Yield the objects of each request."""
    group: list[Outgoing] = []
    size = 0
    for each in objects:
        path = Path(each.entry.path)
        length = path.stat().st_size if path.is_file() else 0
        if group and (len(group) == _MOST_OBJECTS or size + length > _LARGEST_REQUEST):
            yield tuple(group)
            group, size = [], 0
        group.append(each)
        size += length
    if group:
        yield tuple(group)


def _multipart(paths: Sequence[Path], head: bytes, tail: bytes) -> Iterator[bytes]:
    """Yield the body of a request (RFC 2387), read from disk as it is sent."""
    for path in paths:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        yield b"\r\n"
    yield tail
