"""Send requests to one HTTP server and retry what may pass: the client under the archive's, Orthanc's and STOW-RS's.

RequestFailed         no usable response; the text is a clause that says why
├── NotConnected      there is no connection: nothing was sent
├── AccessDenied      401 or 403: the server does not accept our token or password
├── NotFound          404
└── Misdirected       421: the server is not known by the name in the URL

It uses httpx2, the continuation of httpx, which streams bodies both ways and takes our own TLS contexts.
"""

import json
import logging
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx2

from plugin.database.lease import lease_is_over
from plugin.logs import Outage
from plugin.settings.secrets import Credentials, read_credentials
from plugin.settings.tls_reload import current_client_context
from plugin.settings.values import WebServer

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class RequestFailed(Exception):
    """A request came to no usable response; a retry may help. The text is a clause that says why."""


class NotConnected(RequestFailed):
    """The server cannot be connected to, so that nothing was sent."""


class AccessDenied(RequestFailed):
    """The server does not accept our token or password; a retry does not help."""


class Misdirected(RequestFailed):
    """The server is not known by the name that it was called by; a retry does not help."""


class NotFound(RequestFailed):
    """The server has no such resource; a retry does not help."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a client needs to be let in."""

    tls: ssl.SSLContext | None
    """None for a URL that begins with http:."""
    credentials: Credentials


def read_access(server: WebServer, name: str) -> Access:
    """Read certificates and secrets of a section, which `name` names in messages. Raises SettingsWrong."""
    return Access(current_client_context(server, name), read_credentials(server, name))


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response, of any status but 401 and 403."""

    status: int
    body: bytes
    etag: str = ""
    content_type: str = ""
    """The media type of the body, in small letters and without parameters; empty where the server names none."""
    server: str = ""
    """What the server, or a proxy before it, calls itself. Its own text: never log it."""

    def json(self) -> Any:
        """Return the content of its body. Raises RequestFailed."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise RequestFailed("the response is no JSON") from exc


class HttpClient:
    """Sends requests to one server, over a connection that it keeps open between them. For one thread.

    It follows no redirects, so that a secret goes where the settings say and nowhere else, and uses no proxy of the
    environment.
    """

    def __init__(
        self,
        url: str,
        access: Callable[[], Access],
        timeout_s: float,
        *,
        patience_s: float = PATIENCE_S,
        keep_alive_s: float = 5.0,
        largest_body: int = 64 << 20,
    ) -> None:
        """Configure the client, without opening a connection.

        `access` is called for each new connection, so that changed secrets are read again. `timeout_s` bounds
        connecting and each read and write, `patience_s` all attempts of `retry`: with 0 there is one. A connection that
        has been idle for `keep_alive_s` is not used again; choose it shorter than the server's own limit.
        `largest_body` (bytes) bounds what `request` returns.
        """
        self._url = url
        self._access = access
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._keep_alive_s = keep_alive_s
        self._largest_body = largest_body
        self._client: httpx2.Client | None = None
        self._outage = Outage(_LOG, f"requests of {self._url}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Send a request once and return the response, whatever its status.

        A body in parts needs a Content-Length in `headers`. Raises AccessDenied, RequestFailed, SettingsWrong.
        """
        with self.stream(method, path, body, headers, timeout_s) as response:
            received = bytearray()
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > self._largest_body:
                    raise RequestFailed("the response does not end")
            headers = response.headers
            media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return Response(
                response.status_code, bytes(received), headers.get("ETag", ""), media_type, headers.get("Server", "")
            )

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[httpx2.Response]:
        """Send a request once and give the response while its body is still to be read. Raises as `request`."""
        if isinstance(body, Generator):  # a file is read in larger parts than it would yield
            body = _under_lease(body)
        try:
            with self._connected().stream(
                method, self._url + path, content=body, headers=headers, timeout=timeout_s or self._timeout_s
            ) as response:
                if response.status_code in (401, 403):
                    raise AccessDenied(f"HTTP {response.status_code}")
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
            raise NotConnected(_reason(exc)) from exc
        except httpx2.HTTPError as exc:
            raise RequestFailed(_reason(exc)) from exc

    def retry(self, path: str, attempt: Callable[[], _T]) -> _T:
        """Return what `attempt` returns, repeated after growing pauses while it fails and patience lasts.

        RequestFailed and OSError are worth another attempt; AccessDenied, NotFound and Misdirected are not. `path` is
        for the log. Raises RequestFailed.
        """
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = attempt()
                self._outage.works()
                return result
            except (AccessDenied, NotFound, Misdirected):
                self.close()
                raise
            except (RequestFailed, OSError) as exc:
                self.close()
                failure = exc if isinstance(exc, RequestFailed) else RequestFailed(_reason(exc))
                if time.monotonic() + pause_s > deadline:
                    raise failure from exc
                self._outage.failed(f"{path}: {failure}", kind=str(failure))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Close the connection; the next request opens one, with secrets read again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> httpx2.Client:
        if self._client is None:
            access = self._access()
            credentials = access.credentials
            self._client = httpx2.Client(
                headers={"Authorization": f"Bearer {credentials.token}"} if credentials.token else None,
                auth=httpx2.BasicAuth(credentials.user, credentials.password) if credentials.user else None,
                # Without TLS a context that trusts no authority: cheap to make, and useless for https: URLs.
                verify=access.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                limits=httpx2.Limits(keepalive_expiry=self._keep_alive_s),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


def _under_lease(body: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a body; break off when the lease of the thread is over."""
    for part in body:
        if lease_is_over():
            raise RequestFailed("the delivery was broken off, and goes on in this process or another")
        yield part


def check_status(status: int) -> None:
    """Raise NotFound for 404, Misdirected for 421, RequestFailed for any other status that is no success."""
    if status == 404:
        raise NotFound("HTTP 404")
    if status == 421:
        raise Misdirected("HTTP 421")
    if not 200 <= status < 300:
        raise RequestFailed(f"HTTP {status}")


def _reason(exc: BaseException) -> str:
    """Return why a request failed, without text of the peer's: that may hold anything."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS fails: {cause.reason}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, httpx2.TimeoutException):
        return "it does not answer in time"
    if isinstance(exc, httpx2.RemoteProtocolError):
        return "the connection ended before the response, or the response is not HTTP"
    return type(exc).__name__
