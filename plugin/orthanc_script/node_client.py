"""Send requests of the script inside Orthanc to the node over HTTP, and parse the script's settings.

It runs in Orthanc's Python and imports the standard library alone.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

_LARGEST_RESPONSE = 4 << 20
_JSON_TYPES: dict[type, str] = {str: "a text", bool: "true or false", float: "a number"}
STUDY_UNKNOWN = "study_unknown"
"""The value of "glionode" in the detail of the node's own 404; other servers at the same URL have a 404, too."""
TWO_STUDIES = "two_studies"
"""The same for its 409."""


class NodeSettingsWrong(ValueError):
    """The section of Orthanc's configuration cannot be used; the text says why."""


class NodeUnavailable(Exception):
    """The node cannot be reached, or rejects the token. A retry may help."""


class StudyUnknown(Exception):
    """The node does not find a study in the Orthanc that it uses."""

    def __init__(self) -> None:
        super().__init__("The node finds no such study in its Orthanc; if Orthanc has it, check orthanc.url.")


class NodeRefused(Exception):
    """The node rejects the request, or its response is not the expected one; the text says what it is."""


@dataclass(frozen=True)
class NodeSettings:
    """The section "GlioNode" of Orthanc's configuration; `metadata` has each name as Orthanc writes names."""

    url: str = field(default="http://127.0.0.1:8114", metadata={"name": "Url"})
    """Where the node serves HTTP."""
    token_file: str = field(default="", metadata={"name": "TokenFile"})
    """File with the token of the node's http.token_file; Orthanc's user must be able to read it."""
    tls_ca: str = field(default="", metadata={"name": "TlsCa"})
    """PEM file of the authorities that the node's certificate must come from; empty: those that the system trusts."""
    timeout_s: float = field(default=10.0, metadata={"name": "TimeoutSeconds"})
    submit_stable: bool = field(default=True, metadata={"name": "SubmitStable"})
    """Whether stable studies are submitted automatically; if not, only the button and POST submit them."""
    reconcile_every_s: float = field(default=300.0, metadata={"name": "ReconcileEverySeconds"})
    reconcile_days: float = field(default=7.0, metadata={"name": "ReconcileDays", "most": 36500.0})
    """Studies that changed in so many days are submitted if they were missed; older ones a person has to submit."""
    insecure: bool = field(default=False, metadata={"name": "Insecure"})
    """Allow the token to cross a network unencrypted, for private networks such as those of containers."""


def parse_node_settings(section: Any) -> NodeSettings:
    """Return the settings in a section of Orthanc's configuration. Raises NodeSettingsWrong."""
    if not isinstance(section, dict):
        raise NodeSettingsWrong("its section is not an object")
    known = {each.metadata["name"]: each for each in fields(NodeSettings)}
    values: dict[str, Any] = {}
    for name, value in section.items():
        if name not in known:
            raise NodeSettingsWrong(f"{name} is no setting; the settings are {', '.join(known)}")
        default = known[name].default
        number = isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool)
        if not number and type(value) is not type(default):
            raise NodeSettingsWrong(f"{name} must be {_JSON_TYPES[type(default)]}")
        most = known[name].metadata.get("most", 1e6)
        if number and not 0 < value <= most:
            raise NodeSettingsWrong(f"{name} must be more than 0, and {most:.0f} at most")
        values[known[name].name] = value
    settings = NodeSettings(**values)
    _check_url(settings)
    return settings


def _check_url(settings: NodeSettings) -> None:
    """Raise NodeSettingsWrong for a URL that cannot be used, without repeating it: it may hold a secret."""
    try:
        parts = urlsplit(settings.url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if (
        not usable
        or any(sign in settings.url for sign in "@?#\\")
        or parts.path.strip("/")
        or not _is_plain(settings.url)
    ):
        raise NodeSettingsWrong("Url must be like http://host:8114 or https://host:8114, without a user or a password")
    clear = parts.scheme == "http" and settings.token_file and not _is_loopback(parts.hostname or "")
    if clear and not settings.insecure:
        raise NodeSettingsWrong(
            'the token would cross the network unencrypted; write https:// in Url, or set "Insecure": true'
        )


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Node(Protocol):
    """The requests of the script. Studies are named by Orthanc's identifiers.

    Each method raises NodeUnavailable, StudyUnknown or NodeRefused.
    """

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Have a study segmented, with `force` also if it was segmented with these images before."""

    def outcome(self, study: str) -> dict[str, Any]:
        """Return the outcome of a study."""

    def status(self) -> dict[str, Any]:
        """Return the numbers of jobs by state, and the identity of the node's database."""

    def abort(self) -> None:
        """Abort running requests, because Orthanc shuts down."""


class HttpNode:
    """Sends requests to the node over HTTP. Thread-safe; each request has a connection of its own."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.url)
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Submit a study; the node responds when the job is in its database."""
        query = f"urgent={str(urgent).lower()}&force={str(force).lower()}"
        found = self._request("POST", f"/api/orthanc/studies/{study}?{query}")
        if not isinstance(found.get("state"), str):  # another server's response would count as a study that was taken
            raise NodeUnavailable("The server at Url is no node: its response gives no state of the study; check Url.")
        return found

    def outcome(self, study: str) -> dict[str, Any]:
        """Return the outcome of a study."""
        return self._request("GET", f"/api/orthanc/studies/{study}")

    def status(self) -> dict[str, Any]:
        """Return the status of the node."""
        return self._request("GET", "/api/orthanc/status")

    def abort(self) -> None:
        """Shut down the sockets of running requests, so that they end at once."""
        with self._lock:
            for connection in self._open:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _request(self, method: str, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            connection = self._connection()
            with self._lock:
                self._open.add(connection)
            try:
                connection.request(method, path, headers=headers)
                response = connection.getresponse()
                status, body = response.status, response.read(_LARGEST_RESPONSE)
            finally:
                with self._lock:
                    self._open.discard(connection)
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise NodeUnavailable(f"The node at {self._settings.url} does not answer ({type(exc).__name__}).") from exc
        if status in (401, 403):
            raise NodeUnavailable("The node rejects the token; TokenFile must hold the token of its http.token_file.")
        if status == 421:
            raise NodeUnavailable("The node is not known by the name in Url; add that to its http.allowed_hosts.")
        detail = _error_detail(body)
        if status == 404 and detail.get("glionode") == STUDY_UNKNOWN:
            raise StudyUnknown
        if status == 404:
            raise NodeUnavailable(
                "The server at Url is no node that uses an Orthanc (HTTP 404); check Url, and [orthanc] of the node."
            )
        if status in (429, 502, 503, 504):
            raise NodeUnavailable(f"The node responded with HTTP {status}; see its log.")
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if status == 409 and detail.get("glionode") == TWO_STUDIES:
            raise NodeRefused(str(detail.get("why")))
        if not 200 <= status < 300 or not isinstance(found, dict):
            raise NodeRefused(f"The node responded with HTTP {status}; see its log.")
        return found

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._settings.timeout_s
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port or 80, timeout=timeout)
        context = ssl.create_default_context(cafile=self._settings.tls_ca or None)
        return http.client.HTTPSConnection(host, port or 443, timeout=timeout, context=context)

    def _token(self) -> str:
        """Read the token, for each request, so that it can be changed. Raises NodeUnavailable."""
        if not self._settings.token_file:
            return ""
        try:
            token = Path(self._settings.token_file).read_text(encoding="ascii", errors="ignore").strip()
        except OSError as exc:
            raise NodeUnavailable(f"TokenFile {self._settings.token_file} cannot be read ({exc.strerror}).") from exc
        if not _is_plain(token):
            raise NodeUnavailable(f"TokenFile {self._settings.token_file} must hold one line, the token.")
        return token


def _error_detail(body: bytes) -> dict[str, Any]:
    """Return the detail of an error of the node; empty for an error of another server, such as a proxy."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return {}
    return detail if isinstance(detail, dict) else {}
