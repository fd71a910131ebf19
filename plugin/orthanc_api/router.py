"""Dispatch requests to Orthanc's REST API: paths, arguments, bodies."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout

from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_PLURAL
from plugin.orthanc_api.tags import Json, JsonFormat
from plugin.orthanc_api.unsupported_routes import UnsupportedRoutes

_LOG = logging.getLogger(__name__)

ANY = "(patients|studies|series|instances)"
ONE = f"{ANY}/([^/]+)"
"""The beginnings of paths, as patterns."""


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request with its route."""

    host: EmbeddedHost
    groups: tuple[str, ...]
    """The groups of the route's pattern."""
    arguments: dict[str, str]
    body: bytes

    @property
    def json_format(self) -> JsonFormat:
        """The format in which elements are shown."""
        return (
            JsonFormat.FULL
            if "full" in self.arguments
            else JsonFormat.SHORT
            if "short" in self.arguments
            else JsonFormat.HUMAN
        )

    @property
    def resource(self) -> Resource:
        """The resource that the path begins with. Raises OrthancException."""
        return self.host.resource(BY_PLURAL[self.groups[0]], self.groups[1])

    def json(self, code: int = ErrorCode.BAD_REQUEST) -> Json:
        """Return the body as JSON. Raises OrthancException with the code where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise failure(code) from exc

    def number(self, name: str, default: int) -> int:
        """Return an argument as a number of at least 0. Raises OrthancException where it is none."""
        try:
            number = int(self.arguments.get(name, default))
        except ValueError as exc:
            raise failure(ErrorCode.BAD_REQUEST) from exc
        if number < 0:
            raise failure(ErrorCode.BAD_REQUEST)
        return number


Handler = Callable[[RestRequest], "bytes | Json"]


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a pattern of paths, and what handles them."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, pattern: str, handler: Handler) -> Route:
    """Return a route; `pattern` has no first slash. A response that is not bytes is written as JSON."""
    return Route(method, re.compile(f"/{pattern}"), handler)


class RestApi:
    """Orthanc's REST API, as hosted plugins call it. Thread-safe."""

    def __init__(self, host: EmbeddedHost, routes: Sequence[Route]) -> None:
        self._host = host
        self._routes = tuple(routes)
        self._unsupported = UnsupportedRoutes()

    def handle(self, method: str, uri: str, body: bytes = b"") -> bytes:
        """Return the body of the response. Raises OrthancException."""
        self._host.require_started()
        path, arguments = split_query(uri)
        path = normalise_path(path)
        for each in self._routes:
            match = each.pattern.fullmatch(path) if each.method == method else None
            if match is not None:
                response = _call_handler(each.handler, RestRequest(self._host, match.groups(), arguments, body))
                return response if isinstance(response, bytes) else _encode(response)
        raise self._unsupported.error_for(method, path)


def _call_handler(handler: Handler, request: RestRequest) -> "bytes | Json":
    """Call a handler and translate what it raises into Orthanc's errors."""
    try:
        return handler(request)
    except OrthancException:
        raise
    except (psycopg.Error, PoolTimeout) as exc:
        raise failure(ErrorCode.DATABASE) from exc
    except Exception as exc:
        _LOG.error("a request of the hosted plugin failed (%s)", type(exc).__name__)
        raise failure(ErrorCode.INTERNAL_ERROR) from exc


def split_query(uri: str) -> tuple[str, dict[str, str]]:
    """Split a URI into path and arguments, the last value of each. As in Orthanc, nothing is decoded."""
    path, _, query = uri.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    return path, {name: value for name, _, value in pairs}


def normalise_path(path: str) -> str:
    """Remove repeated slashes and the last one. Raises OrthancException where the path has no first one."""
    if not path.startswith("/"):
        raise failure(ErrorCode.URI_SYNTAX)
    return re.sub("/+", "/", path).rstrip("/") or "/"


def _encode(response: Json) -> bytes:
    return (json.dumps(response, indent="\t", sort_keys=True, ensure_ascii=False) + "\n").encode()
