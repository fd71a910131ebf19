"""What a plugin registers, and calling it: whatever goes wrong in a callback is logged and hurts nothing else.

Of what a callback raises kind and place are logged and not its text, which may quote a header.
"""

import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.file_routes import read_file
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.instance import DicomInstance
from plugin.orthanc_api.output import Answer, RestOutput
from plugin.orthanc_api.resource_json import metadata_name, metadata_of
from plugin.orthanc_api.router import tidy

_LOG = logging.getLogger(__name__)

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a plugin's own routes."""

    method: str
    uri: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"


@dataclass(slots=True)
class Callbacks:
    """The callbacks of a script, registered while it is loaded."""

    on_change: Callback | None = None
    on_stored: Callback | None = None
    let_in: Callback | None = None
    routes: list[tuple[re.Pattern[str], Callback]] = field(default_factory=list)

    def call_for(self, host: EmbeddedHost, event: Event) -> None:
        """Tell of an event."""
        if event.stored is not None and self.on_stored is not None:
            try:
                instance = _instance_of(host, event.stored)
            except Exception as exc:  # noqa: BLE001 - a file that is gone by now, or a database that is away
                _LOG.warning("an instance is not shown to the plugin (%s)", type(exc).__name__)
            else:
                _call("on-stored-instance", self.on_stored, instance, event.stored.identifier)
        if self.on_change is not None:
            _call("on-change", self.on_change, event.change_type, event.level, event.resource)

    def lets_in(self, request: Request) -> bool:
        """Whether the plugin's filter lets a request pass. Raises OrthancException where it fails."""
        if self.let_in is None:
            return True
        known: dict[str, Any] = {"method": request.method, "ip": request.address, "headers": request.headers}
        if request.method == "GET":
            known["get"] = request.arguments
        try:
            return bool(self.let_in(tidy(request.uri), **known))
        except Exception as exc:
            log_failure("HTTP filter", exc)
            raise failure(ErrorCode.PLUGIN) from exc

    def answer(self, request: Request) -> Answer | None:
        """What the plugin answers; None where none of its routes fits. Raises OrthancException where it fails."""
        path = tidy(request.uri)
        for pattern, callback in self.routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            known: dict[str, Any] = {
                "method": request.method,
                "groups": list(match.groups()),
                "headers": request.headers,
            }
            if request.method == "GET":
                known["get"] = request.arguments
            if request.method in ("POST", "PUT"):
                known["body"] = request.body
            answer = Answer()
            try:
                callback(RestOutput(answer), path, **known)
            except Exception as exc:
                log_failure("REST", exc)
                raise failure(ErrorCode.PLUGIN) from exc
            return answer
        return None


def _instance_of(host: EmbeddedHost, stored: Resource) -> DicomInstance:
    metadata = metadata_of(stored, {}, host.settings.listener.ae_title)  # all of it the host's own
    return DicomInstance(
        read_file(stored), stored.came, {metadata_name(number, {}): value for number, value in metadata.items()}
    )


def _call(kind: str, callback: Callback, *arguments: object) -> None:
    try:
        callback(*arguments)
    except Exception as exc:  # noqa: BLE001 - it is somebody else's code
        log_failure(kind, exc)


def log_failure(kind: str, exc: BaseException) -> None:
    """Say what a plugin's code raised, and where."""
    frames = traceback.extract_tb(exc.__traceback__)
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "an unknown place"
    _LOG.error("the plugin's %s callback raised %s at %s", kind, type(exc).__name__, place)
