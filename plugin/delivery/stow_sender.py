"""Send objects to a DICOMweb server by STOW-RS (PS3.18 10.5)."""

import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

from pipeline.errors import SettingsWrong
from plugin.database.audit_log import Peer
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outcomes, Outgoing, Sent
from plugin.delivery.stow_response import Claimed, read_outcome, search_finds
from plugin.errors import PeerFailed
from plugin.http.client import AccessDenied, HttpClient, NotConnected, RequestFailed, Response, read_access
from plugin.settings.destinations import StowDestinationSettings

_LARGEST_REQUEST = 1 << 30
"""Bytes of objects in one request, whatever `max_bytes` says."""
_MOST_OBJECTS = 20
_LARGEST_RESPONSE = 4 << 20
_CHUNK = 1 << 20
_ACCEPT = "application/dicom+json"
_UNAVAILABLE = (404, 429)
"""HTTP statuses that say nothing about the objects."""
_FAULTS = (408, 502, 503, 504)
"""HTTP statuses of a server that is away, and of a proxy whose server broke off at an object."""
_NO_SEARCH = (405, 406, 501)
_NONE_STORED = 409
"""Lists outcomes, as the statuses of success do (PS3.18 table 10.5.3-2)."""
_TOO_LARGE = 413
_LIMITS = {
    "nginx": "client_max_body_size of nginx",
    "openresty": "client_max_body_size of nginx",
    "apache": "LimitRequestBody of Apache",
    "iis": "maxAllowedContentLength and uploadReadAheadSize of IIS",
    "envoy": "max_request_bytes of Envoy",
    "traefik": "maxRequestBodyBytes of Traefik",
    "caddy": "max_size of Caddy",
}
"""What limits the size of a request in servers and proxies, by what they call themselves."""


class _NoAnswer(PeerFailed):
    """The server took a connection and gave no answer that says anything about the request."""


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
        """Send objects in requests of bounded size, the smaller objects first. Raises PeerFailed.

        An object is stored where the response to its request says so of its UID, or where a search finds it then.
        """
        with self._connect() as client:
            for group in _groups(objects, min(self._destination.max_bytes, _LARGEST_REQUEST)):
                yield from self._send_group(client, group)

    def echo(self) -> str:
        """Search for a study that does not exist (QIDO-RS), so that no patient data comes back. Raises PeerFailed."""
        with self._connect() as client:
            return self._echo(client)

    def _echo(self, client: HttpClient) -> str:
        query = f"StudyInstanceUID={generate_uid(prefix=None)}&limit=1"
        response = self._exchange(client, "GET", f"/studies?{query}")
        if response.status in (200, 204):
            if search_finds(response.body, "") is None:
                raise PeerFailed(
                    "it responds to a search with something else than DICOM JSON, as a login page or another service "
                    "does; check url, and its token, or user and password"
                )
            return "it answers"
        if response.status in _NO_SEARCH:
            return "it answers, and does not search; whether it stores objects shows when one is sent"
        raise PeerFailed(f"it responded with HTTP {response.status}; check url")

    def _send_group(self, client: HttpClient, group: tuple[Outgoing, ...]) -> Outcomes:
        readable = tuple(each for each in group if Path(each.entry.path).is_file())
        if readable:
            yield from self._send_readable(client, readable)
        for each in group:
            if each not in readable:
                yield each, NotSent(f"the file {each.entry.path} is missing")

    def _send_readable(self, client: HttpClient, readable: tuple[Outgoing, ...]) -> Outcomes:
        try:
            response = self._post(client, readable)
        except _NoAnswer as exc:
            client.close()
            self._echo(client)  # a server that is away gives no answer to this either
            raise BrokenOff(f"{exc}, and answers otherwise", readable) from exc
        if 200 <= response.status < 300 or response.status == _NONE_STORED:
            for each in readable:
                yield each, self._read(client, response, each)
        elif len(readable) == 1:
            size = Path(readable[0].entry.path).stat().st_size
            yield readable[0], NotSent(_refusal(response, size))
        else:  # one of them may be the reason
            for each in readable:
                yield from self._send_readable(client, (each,))

    def _read(self, client: HttpClient, response: Response, outgoing: Outgoing) -> Outcome:
        """Return what the response says of an object, or what a search says where that is nothing certain."""
        found = read_outcome(response.body, outgoing.entry.sop_instance_uid, response.content_type)
        if found is not None and not isinstance(found, Claimed):
            return found
        says = found.reason if found is not None else f"it responded with HTTP {response.status}, naming no such object"
        searched = self._search(client, outgoing)
        if not searched:
            return Sent(f"{says}, and a search finds the object there")
        return NotSent(f"{says}, and {searched}; check url, its token or password, and its log")

    def _search(self, client: HttpClient, outgoing: Outgoing) -> str:
        """Search for an object (QIDO-RS); return why it is not found, as a clause, or nothing where it is."""
        uid = outgoing.entry.sop_instance_uid
        try:
            study = dcmread(outgoing.entry.path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        except (OSError, InvalidDicomError):
            return "its file here cannot be read to search for it"
        query = f"SOPInstanceUID={uid}&limit=2"
        try:
            response = client.request(
                "GET", f"/studies/{study.get('StudyInstanceUID', '')}/instances?{query}", headers={"Accept": _ACCEPT}
            )
        except AccessDenied as exc:
            return f"a search is not allowed ({exc})"
        except NotConnected as exc:
            raise PeerFailed(f"the request to {self._destination.url} failed ({exc})") from exc
        except RequestFailed as exc:
            client.close()
            return f"a search fails ({exc})"
        if response.status in (200, 204):
            found = search_finds(response.body, uid)
            if found is None:
                return "a search gets no DICOM JSON"
            return "" if found else "a search does not find it"
        return "a search does not find it" if response.status == 404 else f"a search gets HTTP {response.status}"

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
            raise _NoAnswer(f"it responded with {exc}; check its token, or user and password") from exc
        except NotConnected as exc:
            raise PeerFailed(f"the request to {self._destination.url} failed ({exc})") from exc
        except RequestFailed as exc:
            raise _NoAnswer(f"the request to {self._destination.url} failed ({exc})") from exc
        except SettingsWrong as exc:
            raise PeerFailed(str(exc)) from exc
        if 300 <= response.status < 400:
            raise PeerFailed(
                f"it responded with HTTP {response.status}, which leads to another address, as to a login page; check "
                "url, and its token, or user and password"
            )
        if response.status in _UNAVAILABLE:
            raise PeerFailed(f"it responded with HTTP {response.status}; check url, and the server")
        if response.status in _FAULTS:
            raise _NoAnswer(f"it responded with HTTP {response.status}")
        return response

    def _connect(self) -> HttpClient:
        access = partial(read_access, self._destination, self._destination.section_name)
        return HttpClient(self._destination.url, access, self._timeout_s, largest_body=_LARGEST_RESPONSE)


def _groups(objects: Sequence[Outgoing], max_bytes: int) -> Iterator[tuple[Outgoing, ...]]:
    """Yield the objects of each request, smaller ones first: a limit on size then stops as few as possible."""
    group: list[int] = []
    size = 0
    lengths = [_size(each) for each in objects]
    for number in sorted(range(len(objects)), key=lengths.__getitem__):
        if group and (len(group) == _MOST_OBJECTS or size + lengths[number] > max_bytes):
            yield tuple(objects[each] for each in sorted(group))
            group, size = [], 0
        group.append(number)
        size += lengths[number]
    if group:
        yield tuple(objects[each] for each in sorted(group))


def _size(outgoing: Outgoing) -> int:
    path = Path(outgoing.entry.path)
    return path.stat().st_size if path.is_file() else 0


def _refusal(response: Response, size: int) -> str:
    """Say why a request with one object of `size` bytes failed, and for one that is too large what to do."""
    if response.status != _TOO_LARGE:
        return f"it responded with HTTP {response.status}"
    server = response.server.lower()
    limit = next((limit for name, limit in _LIMITS.items() if name in server), "") or (
        f"{'; '.join(dict.fromkeys(_LIMITS.values()))}; or the like of its server"
    )
    return (
        f"it, or a proxy before it, refuses the object as too large (HTTP 413); it has {size / 1e6:.1f} MB and goes "
        f"alone already, so raise the limit above that ({limit}). max_bytes of this destination, at most that limit, "
        "keeps requests with several objects below it"
    )


def _multipart(paths: Sequence[Path], head: bytes, tail: bytes) -> Iterator[bytes]:
    """Yield the body of a request (RFC 2387), read from disk as it is sent."""
    for path in paths:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        yield b"\r\n"
    yield tail
