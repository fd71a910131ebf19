"""Hold the callbacks of a hosted plugin and call them. A failure in a callback is logged and affects nothing else.

The log names the kind and place of an exception, not its text, which may quote a DICOM header.
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
from plugin.orthanc_api.resource_json import metadata_name, metadata_of
from plugin.orthanc_api.rest_output import RestOutput, RestResponse
from plugin.orthanc_api.router import normalise_path

_LOG = logging.getLogger(__name__)

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """An HTTP or internal request for a route that the plugin registered."""

    method: str
    uri: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"


@dataclass(slots=True)
class Callbacks:
    """The callbacks that a script registered while it was loaded."""

    on_change: Callback | None = None
    on_stored: Callback | None = None
    http_filter: Callback | None = None
    routes: list[tuple[re.Pattern[str], Callback]] = field(default_factory=list)

    def dispatch(self, host: EmbeddedHost, event: Event) -> None:
        """Call the callbacks that an event is for."""
        if event.stored is not None and self.on_stored is not None:
            try:
                instance = _instance_of(host, event.stored)
            except Exception as exc:  # noqa: BLE001 - the file may be gone, the database unavailable
                _LOG.warning("an instance could not be read for the hosted plugin (%s)", type(exc).__name__)
            else:
                _call("on-stored-instance", self.on_stored, instance, event.stored.identifier)
        if self.on_change is not None:
            _call("on-change", self.on_change, event.change_type, event.level, event.resource)

    def allows(self, request: PluginRequest) -> bool:
        """Return whether the plugin's filter accepts a request. Raises OrthancException where the filter fails."""
        if self.http_filter is None:
            return True
        arguments: dict[str, Any] = {"method": request.method, "ip": request.address, "headers": request.headers}
        if request.method == "GET":
            arguments["get"] = request.arguments
        try:
            return bool(self.http_filter(normalise_path(request.uri), **arguments))
        except Exception as exc:
            log_failure("HTTP filter", exc)
            raise failure(ErrorCode.PLUGIN) from exc

    def handle(self, request: PluginRequest) -> RestResponse | None:
        """Return the plugin's response, None where no route matches. Raises OrthancException where a callback fails."""
        path = normalise_path(request.uri)
        for pattern, callback in self.routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            arguments: dict[str, Any] = {
                "method": request.method,
                "groups": list(match.groups()),
                "headers": request.headers,
            }
            if request.method == "GET":
                arguments["get"] = request.arguments
            if request.method in ("POST", "PUT"):
                arguments["body"] = request.body
            answer = RestResponse()
            try:
                callback(RestOutput(answer), path, **arguments)
            except Exception as exc:
                log_failure("REST", exc)
                raise failure(ErrorCode.PLUGIN) from exc
            return answer
        return None


def _instance_of(host: EmbeddedHost, stored: Resource) -> DicomInstance:
    metadata = metadata_of(stored, {}, host.settings.listener.ae_title)  # metadata of the host alone
    return DicomInstance(
        read_file(stored), stored.reception, {metadata_name(number, {}): value for number, value in metadata.items()}
    )


def _call(kind: str, callback: Callback, *arguments: object) -> None:
    try:
        callback(*arguments)
    except Exception as exc:  # noqa: BLE001 - code of others
        log_failure(kind, exc)


def log_failure(kind: str, exc: BaseException) -> None:
    """Log which exception a plugin raised, and where."""
    frames = traceback.extract_tb(exc.__traceback__)
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "an unknown place"
    _LOG.error("the hosted plugin's %s callback raised %s at %s", kind, type(exc).__name__, place)
