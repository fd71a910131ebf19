"""Read studies from the archive of another host over HTTP, and send results to it. What arrives damaged is not kept."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pipeline.atomic_write import replacing
from pipeline.errors import SettingsWrong
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.client import (
    PATIENCE_S,
    Access,
    AccessDenied,
    HttpClient,
    Misdirected,
    NotFound,
    RequestFailed,
    check_status,
)
from plugin.http.transfer import CHUNK_BYTES, NOT_FOUND, WrongTransfer, format_digest, parse_digest
from plugin.logs import Outage
from plugin.settings.secrets import Credentials, read_http_token
from plugin.settings.sections import HttpSettings
from plugin.settings.tls import archive_context

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")

_KEEP_ALIVE_S = 10.0
"""The server closes a connection that is idle for three times as long."""
_LARGEST_BODY = 64 << 20
"""Bytes of a list of images; that of a study of 100000 has a fifth of it."""


class ArchiveClient:
    """Sends requests to the archive. For one thread."""

    def __init__(self, settings: HttpSettings, patience_s: float = PATIENCE_S) -> None:
        """Read token and certificates. Each method retries for `patience_s`. Raises SettingsWrong."""
        self._settings = settings
        self._access = Access(archive_context(settings), Credentials(token=read_http_token(settings)))
        self._outage = Outage(_LOG, "token and certificates of http.archive_url")
        self._where = f"The archive at {settings.archive_url}"
        self._client = HttpClient(
            settings.archive_url,
            self._read_access,
            settings.timeout_s,
            patience_s=patience_s,
            keep_alive_s=_KEEP_ALIVE_S,
            largest_body=_LARGEST_BODY,
        )

    def _read_access(self) -> Access:
        """Read token and certificates for a new connection; while they cannot be read, the earlier ones are used."""
        try:
            token = read_http_token(self._settings)
            self._access = Access(archive_context(self._settings), Credentials(token=token))
            self._outage.works()
        except SettingsWrong as exc:
            self._outage.failed(f"{exc} What was read before stays in use")
        return self._access

    def get_json(self, path: str) -> Any:
        """Return the JSON content at a path. Raises NotInArchive, ArchiveUnavailable."""
        return self._retry(path, lambda: self._json("GET", path))

    def fetch(self, path: str, target: Path) -> None:
        """Download a path into the file `target`, whole or not at all. Raises NotInArchive, ArchiveUnavailable."""
        self._retry(path, lambda: self._fetch(path, target))

    def put(self, path: str, body: IO[bytes], sha256: bytes) -> Any:
        """Upload the whole of `body` and return the JSON response. Raises NotInArchive, ArchiveUnavailable."""
        headers = {"Content-Length": str(body.seek(0, 2)), "Repr-Digest": format_digest(sha256)}
        return self._retry(path, lambda: self._json("PUT", path, body, headers))

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        self._client.close()

    def _json(
        self, method: str, path: str, body: IO[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        response = self._client.request(method, path, _chunks(body) if body is not None else None, headers)
        _check(response.status, response.body)
        return response.json()

    def _fetch(self, path: str, target: Path) -> None:
        sha256 = hashlib.sha256()
        with self._client.stream("GET", path) as response:
            if response.status_code == 404:
                _check(404, response.read())
            check_status(response.status_code)
            try:
                expected = parse_digest(response.headers.get("Repr-Digest", ""))
            except WrongTransfer as exc:
                raise RequestFailed(str(exc)) from exc
            with replacing(target, durable=False) as file:  # a copy that is removed after use
                for chunk in response.iter_bytes():
                    sha256.update(chunk)
                    file.write(chunk)
                if sha256.digest() != expected:
                    raise RequestFailed("the content does not have the SHA-256 of its Repr-Digest")

    def _retry(self, path: str, attempt: Callable[[], _T]) -> _T:
        try:
            return self._client.retry(path, attempt)
        except NotFound as exc:
            raise NotInArchive(f"{self._where} does not have {path}; it may have been purged.") from exc
        except AccessDenied as exc:
            raise ArchiveUnavailable(
                f"{self._where} refuses the token ({exc}); set http.token_file to a file with the same token on both "
                "hosts."
            ) from exc
        except Misdirected as exc:
            raise ArchiveUnavailable(
                f"{self._where} is not known there by this name; add it to http.allowed_hosts of `glionode listen`."
            ) from exc
        except RequestFailed as exc:
            raise ArchiveUnavailable(
                f"{self._where} cannot be reached or did not handle {path} ({exc}). Check that `glionode listen` runs "
                "there, with http.enabled and a token. The node tries again."
            ) from exc


def _chunks(body: IO[bytes]) -> Iterator[bytes]:
    body.seek(0)
    while chunk := body.read(CHUNK_BYTES):
        yield chunk


def _check(status: int, body: bytes) -> None:
    """Raise as `check_status`; a 404 that is not the archive's own, such as a proxy's, may pass."""
    if status == 404:
        try:
            detail = json.loads(body)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = None
        if detail != NOT_FOUND:
            raise RequestFailed("HTTP 404 from another service than the archive")
    check_status(status)
