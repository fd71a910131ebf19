"""Sending to a web server: STOW-RS (PS3.18 10.5), each object's answer understood. Knows no outbox.

The client is httpx2, the continuation of httpx: typed, streams bodies from disk, takes our own TLS context.
"""

import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydicom.uid import generate_uid

from pipeline.errors import SettingsWrong
from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcome, Outgoing
from plugin.delivery.stow_answer import ANSWERED_BY_OBJECT, outcome_of
from plugin.errors import PeerFailed
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.secrets import read_credentials
from plugin.settings.tls import client_context

_LARGEST_REQUEST = 64 << 20
"""Bytes of objects in one request; a larger object goes alone."""
_MOST_OBJECTS = 20
_LARGEST_ANSWER = 4 << 20
_CHUNK = 1 << 20
_ACCEPT = "application/dicom+json"
_REFUSED = (401, 403)
_AWAY = (404, 408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about the objects."""
_NO_SEARCH = (405, 406, 501)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


class StowSender:
    """Sends to one web server, over one connection for each call."""

    def __init__(self, destination: StowDestinationSettings, timeout_s: float) -> None:
        self._destination = destination
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """Its URL; it has no AE title."""
        return Peer("", self._destination.url)

    def send(self, objects: Sequence[Outgoing]) -> Generator[tuple[Outgoing, Outcome], None, None]:
        """Send in requests of bounded size. Raises PeerFailed."""
        with self._client() as client:
            for group in _groups(objects):
                yield from self._send_group(client, group)

    def echo(self) -> str:
        """Search for a study that is nobody's (QIDO-RS), so that no patient's name comes back. Raises PeerFailed."""
        with self._client() as client:
            query = {"StudyInstanceUID": str(generate_uid(prefix=None)), "limit": "1"}
            request = client.build_request("GET", f"{self._destination.url}/studies", params=query)
            status = self._ask(client, request).status
        if status in (200, 204):
            return "it answers"
        if status in _NO_SEARCH:
            return "it answers, and does not search; whether it stores is seen when something is sent"
        raise PeerFailed(f"it answers HTTP {status}; look at url")

    def _send_group(
        self, client: httpx2.Client, group: tuple[Outgoing, ...]
    ) -> Generator[tuple[Outgoing, Outcome], None, None]:
        readable = tuple(each for each in group if Path(each.entry.path).is_file())
        for each in group:
            if each not in readable:
                yield each, NotSent(f"{each.entry.path} is gone")
        if not readable:
            return
        answer = self._post(client, readable)
        if answer.status in ANSWERED_BY_OBJECT:
            for each in readable:
                yield each, outcome_of(answer.status, answer.body, each.entry.sop_instance_uid)
        elif len(readable) == 1:
            yield readable[0], NotSent(f"it answers HTTP {answer.status}")
        else:  # one of them may have spoilt it for the others
            for each in readable:
                yield from self._send_group(client, (each,))

    def _post(self, client: httpx2.Client, objects: tuple[Outgoing, ...]) -> _Answer:
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
        return self._ask(client, request)

    def _ask(self, client: httpx2.Client, request: httpx2.Request) -> _Answer:
        try:
            response = client.send(request, stream=True)
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        raise PeerFailed("its answer has no end")
            finally:
                response.close()
        except httpx2.HTTPError as exc:
            raise PeerFailed(f"{self._destination.url} fails ({type(exc).__name__})") from exc
        if response.status_code in _REFUSED:
            raise PeerFailed(f"it answers HTTP {response.status_code}; look at its token, or user and password")
        if response.status_code in _AWAY or response.is_redirect:
            raise PeerFailed(f"it answers HTTP {response.status_code}; look at url, and whether it is well")
        return _Answer(response.status_code, bytes(body))

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
            follow_redirects=False,  # a token goes where the settings say and nowhere else
            trust_env=False,
        ) as client:
            yield client


def _groups(objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, ...]]:
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
    """The body of a request (RFC 2387), from disk as it goes."""
    for path in paths:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        yield b"\r\n"
    yield tail
