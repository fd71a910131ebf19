"""The archive of another host, asked over HTTP. What arrives torn or changed is asked for again and never kept.

What cannot be had at once is tried for half a minute; then it is for the caller to come again later.
"""

import hashlib
import http.client
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from pipeline.errors import GlionodeError
from plugin.errors import ArchiveAway, NotInArchive
from plugin.http.transfer import CHUNK_BYTES, WrongTransfer, parse_digest, repr_digest
from plugin.settings.secrets import read_http_token
from plugin.settings.sections import HttpSettings
from plugin.settings.tls import archive_context

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_REFUSING = (401, 403)
_REUSED_WITHIN_S = 10.0
"""The server hangs up on an idle connection after three times that."""
_LARGEST_ANSWER = 64 << 20
"""Bytes of a list of images; a study of 100000 has a fifth of it."""


class ArchiveClient:
    """Speaks to the archive. For one thread."""

    def __init__(self, settings: HttpSettings, patience_s: float = _PATIENCE_S) -> None:
        """Raises SettingsWrong."""
        self._url = urlsplit(settings.archive_url)
        self._token = read_http_token(settings)
        self._context = archive_context(settings)
        self._timeout_s = settings.timeout_s
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def get_json(self, path: str) -> Any:
        """What a path says. Raises NotInArchive, ArchiveAway."""
        return self._patiently(path, lambda: json.loads(self._answer("GET", path).read(_LARGEST_ANSWER)))

    def fetch(self, path: str, target: Path) -> None:
        """Put what is at a path into a file, whole or not at all. Raises NotInArchive, ArchiveAway."""
        self._patiently(path, lambda: self._fetch(path, target))

    def put(self, path: str, body: IO[bytes], sha256: bytes) -> Any:
        """Send a body from its beginning, and give what the answer says. Raises NotInArchive, ArchiveAway."""
        size = body.seek(0, 2)
        headers = {"Content-Length": str(size), "Repr-Digest": repr_digest(sha256)}

        def send() -> Any:
            body.seek(0)
            return json.loads(self._answer("PUT", path, body, headers).read(_LARGEST_ANSWER))

        return self._patiently(path, send)

    def close(self) -> None:
        """Hang up; the next request calls again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch(self, path: str, target: Path) -> None:
        answer = self._answer("GET", path)
        part = target.with_name(f"{target.name}.part")
        sha256 = hashlib.sha256()
        with part.open("wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                sha256.update(chunk)
                file.write(chunk)
        # http.client ends a body that is too short without a word when it is read in parts.
        if answer.length or sha256.digest() != parse_digest(answer.headers.get("Repr-Digest", "")):
            raise WrongTransfer("it came torn or changed")
        part.replace(target)

    def _answer(
        self, method: str, path: str, body: IO[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """An answer that is none of an error. Raises what _patiently knows."""
        connection = self._connected()
        connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", **(headers or {})})
        answer = connection.getresponse()
        if 200 <= answer.status < 300:
            return answer
        answer.read(_LARGEST_ANSWER)
        if answer.status in _REFUSING:
            raise ArchiveAway(f"{self._where()} refuses the token; http.token_file has to be the same here and there.")
        if answer.status == 404:
            raise NotInArchive(f"{self._where()} has no {path} any more.")
        raise WrongTransfer(f"status {answer.status}")

    def _connected(self) -> http.client.HTTPConnection:
        if time.monotonic() - self._used_at > _REUSED_WITHIN_S:
            self.close()
        self._used_at = time.monotonic()
        if self._connection is None:
            host, port, timeout = self._url.hostname or "", self._url.port, self._timeout_s
            if self._context is not None:
                self._connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        return self._connection

    def _patiently(self, path: str, attempt: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException, WrongTransfer, ValueError) as exc:
                self.close()
                why = str(exc) if isinstance(exc, WrongTransfer) else type(exc).__name__
                if time.monotonic() + pause_s > deadline:
                    raise ArchiveAway(
                        f"{self._where()} does not give or take {path} ({why}). Does `glionode listen` run there, with "
                        "http.enabled and a token? It is tried again."
                    ) from exc
                _LOG.warning("%s: %s; next try in %.1f s", path, why, pause_s)
            except GlionodeError:
                self.close()
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _where(self) -> str:
        return f"The archive at {self._url.scheme}://{self._url.netloc}"
