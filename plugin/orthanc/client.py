"""Read an Orthanc over its REST API, as far as the node needs it, and write metadata there."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.atomic_write import replacing
from pipeline.errors import GlionodeError, SettingsWrong
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.client import (
    PATIENCE_S,
    AccessDenied,
    HttpClient,
    NotFound,
    RequestFailed,
    Response,
    check_status,
    read_access,
)
from plugin.settings.sections import OrthancSettings

_T = TypeVar("_T")

_TEMPORARY = (408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about what was requested."""
_KEEP_ALIVE_S = 0.5
"""Orthanc closes a connection that is idle for a second."""
_LARGEST_BODY = 256 << 20
"""Bytes; the list of a study of 100000 images has 80 MB."""
_READ_ON_BYTES = 1 << 17
"""To read so much more than is needed is quicker than to open a new connection."""
_ORTHANC_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")


class MetadataRefused(GlionodeError):
    """Orthanc answers, and does not accept this metadata."""


def is_orthanc_id(text: str) -> bool:
    """Return whether a text is an identifier of Orthanc's, and so safe in a path."""
    return _ORTHANC_ID.fullmatch(text) is not None


class OrthancClient:
    """Sends requests to one Orthanc. For one thread."""

    def __init__(self, settings: OrthancSettings, patience_s: float = PATIENCE_S) -> None:
        """Methods that read retry for `patience_s`; with 0 they try once."""
        self._where = f"Orthanc at {settings.url}"
        self._client = HttpClient(
            settings.url,
            lambda: read_access(settings, "orthanc"),
            settings.timeout_s,
            patience_s=patience_s,
            keep_alive_s=_KEEP_ALIVE_S,
            largest_body=_LARGEST_BODY,
        )

    def get_json(self, path: str) -> Any:
        """Return the JSON content at a path. Raises NotInArchive, ArchiveUnavailable."""
        return self._retry(path, lambda: self._json("GET", path))

    def post_json(self, path: str, question: object) -> Any:
        """Return the JSON response to a POST that changes nothing there; `question` is sent as JSON, or as its bytes.

        Raises NotInArchive, ArchiveUnavailable.
        """
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        return self._retry(path, lambda: self._json("POST", path, body))

    def put_metadata(self, path: str, body: bytes) -> None:
        """Replace metadata, also where Orthanc checks revisions. Tries once.

        Raises NotInArchive, MetadataRefused, ArchiveUnavailable.
        """
        current = self.request("GET", path)
        # Where there is a value already, CheckRevisions requires its ETag; without CheckRevisions Orthanc ignores it.
        headers = {"If-Match": current.etag} if current.status == 200 and current.etag else {}
        status = self.request("PUT", path, body, headers=headers).status
        if status in _TEMPORARY:
            raise ArchiveUnavailable(f"{self._where} did not handle {path} (HTTP {status}).")
        if status == 404:
            raise NotInArchive(f"{self._where} does not have {path}.")
        if not 200 <= status < 300:
            raise MetadataRefused(f"{self._where} refuses {path} (HTTP {status}).")

    def set_label(self, path: str, prefix: str, label: str) -> None:
        """Give a resource a label in place of its other labels with this prefix; nothing where Orthanc has no labels.

        `path` is that of the resource. Tries once. Raises MetadataRefused, ArchiveUnavailable.
        """
        found = self.request("GET", f"{path}/labels")
        if found.status == 404:  # an Orthanc before 1.12, or the resource was deleted
            return
        labels = found.json() if found.status == 200 else []
        outdated = [each for each in labels if str(each).startswith(prefix) and each != label]
        for method, each in (*(("DELETE", each) for each in outdated), ("PUT", label)):
            status = self.request(method, f"{path}/labels/{each}", b"").status
            if status in _TEMPORARY:
                raise ArchiveUnavailable(f"{self._where} did not handle a label of {path} (HTTP {status}).")
            if not (200 <= status < 300 or status == 404):
                raise MetadataRefused(f"{self._where} refuses a label of {path} (HTTP {status}).")

    def fetch(self, path: str, target: Path, size: int) -> None:
        """Download `size` bytes at a path to `target`, or nothing. Raises NotInArchive, ArchiveUnavailable."""
        self._retry(path, lambda: self._fetch(path, target, size, size))

    def fetch_head(self, path: str, target: Path, size: int, head: int) -> bool:
        """Download at least the first `head` of a path's `size` bytes into a file of that size, the rest zeros.

        Return whether all bytes came. Raises NotInArchive, ArchiveUnavailable.
        """
        return self._retry(path, lambda: self._fetch(path, target, size, head))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request once and return the response, whatever its status. Raises ArchiveUnavailable."""
        return self._translate(path, lambda: self._client.request(method, path, body, headers, timeout_s))

    def close(self) -> None:
        """Close the connection; the next request opens one and reads the password again."""
        self._client.close()

    def _json(self, method: str, path: str, body: bytes | None = None) -> Any:
        response = self._client.request(method, path, body)
        check_status(response.status)
        return response.json()

    def _fetch(self, path: str, target: Path, size: int, head: int) -> bool:
        headers = {"Range": f"bytes=0-{head - 1}"} if head < size else {}
        received = 0
        with self._client.stream("GET", path, headers=headers) as response:
            check_status(response.status_code)
            with replacing(target, durable=False) as file:  # a copy that is removed after use
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    received += len(chunk)
                    if head <= received < size - _READ_ON_BYTES:
                        break  # an Orthanc without support for ranges would send all the rest
                if received < head or received > size:
                    raise RequestFailed(f"it sent {received} bytes and announced {size}")
                file.truncate(size)
        return received == size

    def _retry(self, path: str, attempt: Callable[[], _T]) -> _T:
        return self._translate(path, lambda: self._client.retry(path, attempt))

    def _translate(self, path: str, request: Callable[[], _T]) -> _T:
        try:
            return request()
        except NotFound as exc:
            raise NotInArchive(f"{self._where} does not have {path}.") from exc
        except AccessDenied as exc:
            self.close()
            raise ArchiveUnavailable(
                f"{self._where} denies access ({exc}); check orthanc.user and its password."
            ) from exc
        except RequestFailed as exc:
            self.close()
            raise ArchiveUnavailable(f"{self._where} cannot be reached or did not handle {path} ({exc}).") from exc
        except SettingsWrong as exc:
            raise ArchiveUnavailable(str(exc)) from exc
