"""Which request to Orthanc's REST API is answered by what: paths, arguments, bodies. Answers nothing itself."""

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
from plugin.orthanc_api.missing_routes import MissingRoutes
from plugin.orthanc_api.tags import Form, Json

_LOG = logging.getLogger(__name__)

ANY = "(patients|studies|series|instances)"
ONE = f"{ANY}/([^/]+)"
"""The beginnings of paths."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has found its route."""

    host: EmbeddedHost
    groups: tuple[str, ...]
    """Of the route's pattern."""
    arguments: dict[str, str]
    body: bytes

    @property
    def form(self) -> Form:
        """How elements are to be shown."""
        return Form.FULL if "full" in self.arguments else Form.SHORT if "short" in self.arguments else Form.HUMAN

    @property
    def resource(self) -> Resource:
        """The one that the path begins with. Raises OrthancException."""
        return self.host.resource(BY_PLURAL[self.groups[0]], self.groups[1])

    def json(self, code: int = ErrorCode.BAD_REQUEST) -> Json:
        """The body. Raises OrthancException with the code where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise failure(code) from exc

    def number(self, name: str, default: int) -> int:
        """An argument. Raises OrthancException where it is no number."""
        try:
            number = int(self.arguments.get(name, default))
        except ValueError as exc:
            raise failure(ErrorCode.BAD_REQUEST) from exc
        if number < 0:
            raise failure(ErrorCode.BAD_REQUEST)
        return number


Handler = Callable[[Asked], "bytes | Json"]


@dataclass(frozen=True, slots=True)
class Route:
    """What is answered by what."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, pattern: str, handler: Handler) -> Route:
    """A route; `pattern` is without its first slash. An answer that is not bytes is written as JSON."""
    return Route(method, re.compile(f"/{pattern}"), handler)


class OrthancRest:
    """Answers requests. Thread-safe."""

    def __init__(self, host: EmbeddedHost, routes: Sequence[Route]) -> None:
        self._host = host
        self._routes = tuple(routes)
        self._missing = MissingRoutes()

    def answer(self, method: str, uri: str, body: bytes = b"") -> bytes:
        """The body of the answer. Raises OrthancException."""
        self._host.require_started()
        path, arguments = split_query(uri)
        path = tidy(path)
        for each in self._routes:
            match = each.pattern.fullmatch(path) if each.method == method else None
            if match is not None:
                answer = _called(each.handler, Asked(self._host, match.groups(), arguments, body))
                return answer if isinstance(answer, bytes) else _encode(answer)
        raise self._missing.failure_of(method, path)


def _called(handler: Handler, asked: Asked) -> "bytes | Json":
    """What a handler answers; whatever it fails by becomes one of Orthanc's errors."""
    try:
        return handler(asked)
    except OrthancException:
        raise
    except (psycopg.Error, PoolTimeout) as exc:
        raise failure(ErrorCode.DATABASE) from exc
    except Exception as exc:
        _LOG.error("a plugin's request failed (%s)", type(exc).__name__)
        raise failure(ErrorCode.INTERNAL_ERROR) from exc


def split_query(uri: str) -> tuple[str, dict[str, str]]:
    """The path, and the arguments behind it, each with the last of its values. As in Orthanc, nothing is decoded."""
    path, _, query = uri.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    return path, {name: value for name, _, value in pairs}


def tidy(path: str) -> str:
    """A path without repeated slashes and without one at its end. Raises OrthancException where it begins with none."""
    if not path.startswith("/"):
        raise failure(ErrorCode.URI_SYNTAX)
    return re.sub("/+", "/", path).rstrip("/") or "/"


def _encode(answer: Json) -> bytes:
    return (json.dumps(answer, indent="\t", sort_keys=True, ensure_ascii=False) + "\n").encode()
