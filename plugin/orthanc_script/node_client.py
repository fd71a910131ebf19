"""The node as the plugin inside Orthanc reaches it: settings, and HTTP with a token. The standard library alone."""

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

_LARGEST_ANSWER = 4 << 20
STUDY_UNKNOWN = "study_unknown"
"""What the node says, as "glionode" in the detail of its 404: any server has a 404, and most say nothing of studies."""
TWO_STUDIES = "two_studies"
"""The same of its 409."""


class NodeSettingsWrong(ValueError):
    """The section of Orthanc's configuration is none that can be used; the text says why."""


class NodeAway(Exception):
    """The node cannot be reached, or does not let us in. It is worth to try again."""


class StudyUnknown(Exception):
    """The node looked for a study in its Orthanc, and says that it is not there."""

    def __init__(self) -> None:
        super().__init__("The node finds no such study in its Orthanc; see its orthanc.url if Orthanc has it.")


class NodeRefused(Exception):
    """The node answers something else than was asked for; the text says what."""


@dataclass(frozen=True)
class NodeSettings:
    """The section, with Orthanc's way of writing names in `metadata`."""

    url: str = field(default="http://127.0.0.1:8114", metadata={"name": "Url"})
    """Where the node serves HTTP."""
    token_file: str = field(default="", metadata={"name": "TokenFile"})
    """File with the token of the node's http.token_file; Orthanc's user must be able to read it."""
    tls_ca: str = field(default="", metadata={"name": "TlsCa"})
    """PEM file of the authorities of the node's certificate; empty: those that the system trusts."""
    timeout_s: float = field(default=10.0, metadata={"name": "TimeoutSeconds"})
    submit_stable: bool = field(default=True, metadata={"name": "SubmitStable"})
    """Whether studies are submitted by themselves; where not, the button and POST are left."""
    reconcile_every_s: float = field(default=300.0, metadata={"name": "ReconcileEverySeconds"})
    reconcile_days: float = field(default=7.0, metadata={"name": "ReconcileDays", "most": 36500.0})
    """How far back it is looked for studies that were not submitted; older ones are for a person to name."""
    insecure: bool = field(default=False, metadata={"name": "Insecure"})
    """Allow a token to cross a network in the clear; it may be one's own, such as a container's."""


def node_settings(section: Any) -> NodeSettings:
    """The settings of a section of Orthanc's configuration. Raises NodeSettingsWrong."""
    if not isinstance(section, dict):
        raise NodeSettingsWrong("its section is no object")
    known = {each.metadata["name"]: each for each in fields(NodeSettings)}
    values: dict[str, Any] = {}
    for name, value in section.items():
        if name not in known:
            raise NodeSettingsWrong(f"{name} is no setting; there are {', '.join(known)}")
        default = known[name].default
        number = isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool)
        if not number and type(value) is not type(default):
            raise NodeSettingsWrong(
                f"{name} has to be {'a number' if isinstance(default, float) else 'as in the docs'}"
            )
        most = known[name].metadata.get("most", 1e6)
        if number and not 0 < value <= most:
            raise NodeSettingsWrong(f"{name} has to be more than 0, and {most:.0f} at most")
        values[known[name].name] = value
    settings = NodeSettings(**values)
    _check_url(settings)
    return settings


def _check_url(settings: NodeSettings) -> None:
    """Raises NodeSettingsWrong, whose text repeats nothing of the URL: a secret may be in it."""
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
        raise NodeSettingsWrong("Url is written http://host:8114 or https://host:8114, without a user or a password")
    clear = parts.scheme == "http" and settings.token_file and not _is_loopback(parts.hostname or "")
    if clear and not settings.insecure:
        raise NodeSettingsWrong(
            'the token would cross the network in the clear; write https:// in Url, or say "Insecure": true'
        )


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Node(Protocol):
    """What the plugin asks; studies go by Orthanc's identifiers. Each raises NodeAway, StudyUnknown or NodeRefused."""

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Have a study segmented, unless it was with these images; `force`: also then."""

    def look(self, study: str) -> dict[str, Any]:
        """What came of a study."""

    def status(self) -> dict[str, Any]:
        """How the node is."""

    def abort(self) -> None:
        """Break off what is being asked now, for Orthanc ends."""


class HttpNode:
    """The node over HTTP. Thread-safe; each request has a connection of its own."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.url)
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """POST; it is answered when the job is in the database."""
        query = f"urgent={str(urgent).lower()}&force={str(force).lower()}"
        return self._ask("POST", f"/api/orthanc/studies/{study}?{query}")

    def look(self, study: str) -> dict[str, Any]:
        """GET."""
        return self._ask("GET", f"/api/orthanc/studies/{study}")

    def status(self) -> dict[str, Any]:
        """GET."""
        return self._ask("GET", "/api/orthanc/status")

    def abort(self) -> None:
        """Shut the sockets down, which ends waiting for an answer at once."""
        with self._lock:
            for connection in self._open:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            connection = self._connection()
            with self._lock:
                self._open.add(connection)
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                status, body = answer.status, answer.read(_LARGEST_ANSWER)
            finally:
                with self._lock:
                    self._open.discard(connection)
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise NodeAway(f"The node at {self._settings.url} does not answer ({type(exc).__name__}).") from exc
        if status in (401, 403):
            raise NodeAway("The node refuses the token; TokenFile has to hold the one of its http.token_file.")
        said = _said(body)
        if status == 404 and said.get("glionode") == STUDY_UNKNOWN:
            raise StudyUnknown
        if status == 404:
            raise NodeAway(
                "What answers at Url is no node with an Orthanc (HTTP 404); see Url, and [orthanc] of the node."
            )
        if status in (429, 502, 503, 504):
            raise NodeAway(f"The node answers HTTP {status}; its log says why.")
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if status == 409 and said.get("glionode") == TWO_STUDIES:
            raise NodeRefused(str(said.get("why")))
        if not 200 <= status < 300 or not isinstance(found, dict):
            raise NodeRefused(f"The node answers HTTP {status}.")
        return found

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._settings.timeout_s
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port or 80, timeout=timeout)
        context = ssl.create_default_context(cafile=self._settings.tls_ca or None)
        return http.client.HTTPSConnection(host, port or 443, timeout=timeout, context=context)

    def _token(self) -> str:
        """Read anew for each request, so that it can be changed. Raises NodeAway."""
        if not self._settings.token_file:
            return ""
        try:
            token = Path(self._settings.token_file).read_text(encoding="ascii", errors="ignore").strip()
        except OSError as exc:
            raise NodeAway(f"TokenFile {self._settings.token_file} cannot be read ({exc.strerror}).") from exc
        if not _is_plain(token):
            raise NodeAway(f"TokenFile {self._settings.token_file} has to hold one line, the token.")
        return token


def _said(body: bytes) -> dict[str, Any]:
    """The detail of a refusal of the node's own; empty where somebody else refuses."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return {}
    return detail if isinstance(detail, dict) else {}
