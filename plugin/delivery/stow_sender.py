"""Send objects to a DICOMweb server by STOW-RS (PS3.18 10.5).

The client is httpx2, the continuation of httpx: typed, streams bodies from disk, takes our own TLS context.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydicom.uid import generate_uid

from pipeline.errors import SettingsWrong
from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcomes, Outgoing
from plugin.delivery.stow_response import STATUSES_WITH_OUTCOMES, read_outcome
from plugin.errors import PeerFailed
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.secrets import read_credentials
from plugin.settings.tls import client_context

_LARGEST_REQUEST = 64 << 20
"""Bytes of objects in one request; a larger object goes alone."""
_MOST_OBJECTS = 20
_LARGEST_RESPONSE = 4 << 20
_CHUNK = 1 << 20
_ACCEPT = "application/dicom+json"
_UNAUTHORISED = (401, 403)
_UNAVAILABLE = (404, 408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about the objects."""
_NO_SEARCH = (405, 406, 501)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes


class StowSender:
    """Sends to one server, over one connection per call."""

    def __init__(self, destination: StowDestinationSettings, timeout_s: float) -> None:
        self._destination = destination
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """The URL of the server; it has no AE title."""
        return Peer("", self._destination.url)

    def send(self, objects: Sequence[Outgoing]) -> Outcomes:
        """Send objects in requests of bounded size. Raises PeerFailed."""
        with self._client() as client:
            for group in _groups(objects):
                yield from self._send_group(client, group)

    def echo(self) -> str:
        """Search for a study that does not exist (QIDO-RS), so that no patient data comes back. Raises PeerFailed."""
        with self._client() as client:
            query = {"StudyInstanceUID": str(generate_uid(prefix=None)), "limit": "1"}
            request = client.build_request("GET", f"{self._destination.url}/studies", params=query)
            status = self._exchange(client, request).status
        if status in (200, 204):
            return "it answers"
        if status in _NO_SEARCH:
            return "it answers, and does not search; whether it stores objects shows when one is sent"
        raise PeerFailed(f"it responded with HTTP {status}; check url")

    def _send_group(self, client: httpx2.Client, group: tuple[Outgoing, ...]) -> Outcomes:
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

    def _post(self, client: httpx2.Client, objects: tuple[Outgoing, ...]) -> _Response:
        boundary = uuid.uuid4().hex
        paths = [Path(each.entry.path) for each in objects]
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + path.stat().st_size + 2 for path in paths) + len(tail)
        request = client.build_request(
            "POST",
            f"{self._destination.url}/studies",
            content=_multipart(paths, head, tail),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(length),
            },
        )
        return self._exchange(client, request)

    def _exchange(self, client: httpx2.Client, request: httpx2.Request) -> _Response:
        try:
            response = client.send(request, stream=True)
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_RESPONSE:
                        raise PeerFailed(f"its response is longer than {_LARGEST_RESPONSE >> 20} MiB")
            finally:
                response.close()
        except httpx2.HTTPError as exc:
            raise PeerFailed(f"the request to {self._destination.url} failed ({type(exc).__name__})") from exc
        if response.status_code in _UNAUTHORISED:
            raise PeerFailed(f"it responded with HTTP {response.status_code}; check its token, or user and password")
        if response.status_code in _UNAVAILABLE or response.is_redirect:
            raise PeerFailed(f"it responded with HTTP {response.status_code}; check url, and the server")
        return _Response(response.status_code, bytes(body))

    @contextmanager
    def _client(self) -> Iterator[httpx2.Client]:
        try:
            key = self._destination.key
            tls, credentials = client_context(self._destination, key), read_credentials(self._destination, key)
        except SettingsWrong as exc:
            raise PeerFailed(str(exc)) from exc
        headers = {"Accept": _ACCEPT}
        if credentials.token:
            headers["Authorization"] = f"Bearer {credentials.token}"
        with httpx2.Client(
            headers=headers,
            auth=httpx2.BasicAuth(credentials.user, credentials.password) if credentials.user else None,
            verify=tls if tls is not None else True,
            timeout=self._timeout_s,
            follow_redirects=False,  # a token goes to the URL of the settings and nowhere else
            trust_env=False,
        ) as client:
            yield client


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
