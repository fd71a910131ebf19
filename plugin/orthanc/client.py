"""Orthanc's REST API, as far as the node asks it. What cannot be had at once is tried for half a minute.

The client is httpx2, as for STOW-RS: it streams, so that of a large file the beginning can be had alone.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from pipeline.errors import GlionodeError, SettingsWrong
from plugin.errors import ArchiveAway, NotInArchive
from plugin.settings.secrets import read_credentials
from plugin.settings.sections import OrthancSettings
from plugin.settings.tls import client_context

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_REFUSING = (401, 403)
_AWAY = (408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about what was asked."""
_KEPT_ALIVE_S = 0.5
"""Orthanc hangs up on a connection that is idle for a second."""
_LARGEST_ANSWER = 256 << 20
"""Bytes; of a study of 100000 images the list has 80 MB."""
_READ_ON_BYTES = 1 << 17
"""So much more than is needed is read rather than to call anew."""
_ORTHANC_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")


class MetadataRefused(GlionodeError):
    """Orthanc answers, and does not take this metadata."""


class WrongAnswer(ValueError):
    """Orthanc's answer is none that was asked for; the text says what it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of any status but those that say that it does not let us in."""

    status: int
    body: bytes
    etag: str = ""

    def json(self) -> Any:
        """What it says. Raises WrongAnswer."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise WrongAnswer("an answer that is no JSON") from exc


def is_orthanc_id(text: str) -> bool:
    """Whether a text is an identifier of Orthanc's, and so safe in a path."""
    return _ORTHANC_ID.fullmatch(text) is not None


class OrthancClient:
    """Speaks to one Orthanc. For one thread."""

    def __init__(self, settings: OrthancSettings, patience_s: float = _PATIENCE_S) -> None:
        """Without patience each thing is tried once."""
        self._settings = settings
        self._patience_s = patience_s
        self._client: httpx2.Client | None = None

    def get_json(self, path: str) -> Any:
        """What a path says. Raises NotInArchive, ArchiveAway."""
        return self._patiently(path, lambda: self._good(self.ask("GET", path), path).json())

    def post_json(self, path: str, question: object) -> Any:
        """What it answers to a question that changes nothing, asked in JSON or, if it is bytes, in these.

        Raises NotInArchive, ArchiveAway.
        """
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        return self._patiently(path, lambda: self._good(self.ask("POST", path, body), path).json())

    def put_metadata(self, path: str, body: bytes) -> None:
        """Write metadata over what is there, also where Orthanc checks revisions. Tried once.

        Raises NotInArchive, MetadataRefused, ArchiveAway.
        """
        there = self.ask("GET", path)
        # What CheckRevisions asks for where there is a value already, and no other Orthanc minds.
        revision = {"If-Match": there.etag} if there.status == 200 and there.etag else {}
        answer = self.ask("PUT", path, body, headers=revision)
        if answer.status in _AWAY:
            raise ArchiveAway(f"{self._where()} does not take {path} (HTTP {answer.status}).")
        try:
            self._good(answer, path)
        except WrongAnswer as exc:
            raise MetadataRefused(f"{self._where()} refuses {path} ({exc}).") from exc

    def fetch(self, path: str, target: Path, size: int) -> None:
        """Put a file of so many bytes at a place, whole or not at all. Raises NotInArchive, ArchiveAway."""
        self._patiently(path, lambda: self._fetch(path, target, size, size))

    def fetch_head(self, path: str, target: Path, size: int, head: int) -> bool:
        """Put at least the first `head` of a file's `size` bytes at a place; zeros take the place of the others.

        Returns whether all came. Raises NotInArchive, ArchiveAway.
        """
        return self._patiently(path, lambda: self._fetch(path, target, size, head))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, one answer, whatever its status. Raises ArchiveAway."""
        client = self._connected()
        timeout = timeout_s or self._settings.timeout_s
        try:
            request = client.stream(method, self._settings.url + path, content=body, timeout=timeout, headers=headers)
            with request as answer:
                self._refuse_refusal(answer)
                found = bytearray()
                for chunk in answer.iter_bytes():
                    found += chunk
                    if len(found) > _LARGEST_ANSWER:
                        raise ArchiveAway(f"{self._where()} answers {path} without an end.")
                return Answer(answer.status_code, bytes(found), answer.headers.get("ETag", ""))
        except httpx2.HTTPError as exc:
            self.close()
            raise ArchiveAway(f"{self._where()} does not answer ({type(exc).__name__}).") from exc

    def close(self) -> None:
        """Hang up; the next request calls again, and reads the password anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _fetch(self, path: str, target: Path, size: int, head: int) -> bool:
        part = target.with_name(f"{target.name}.part")
        wanted = {"Range": f"bytes=0-{head - 1}"} if head < size else {}
        got = 0
        with (
            self._connected().stream("GET", self._settings.url + path, headers=wanted) as answer,
            part.open("wb") as file,
        ):
            self._refuse_refusal(answer)
            if answer.status_code not in (200, 206):
                self._good(Answer(answer.status_code, b""), path)
            for chunk in answer.iter_bytes():
                file.write(chunk)
                got += len(chunk)
                if head <= got < size - _READ_ON_BYTES:
                    break  # an Orthanc that knows no ranges would send the rest
            if got < head or got > size:
                raise WrongAnswer(f"{got} bytes where {size} were announced")
            file.truncate(size)
        part.replace(target)
        return got == size

    def _good(self, answer: Answer, path: str) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        if answer.status == 404:
            raise NotInArchive(f"{self._where()} has no {path} any more.")
        raise WrongAnswer(f"HTTP {answer.status}")

    def _refuse_refusal(self, answer: httpx2.Response) -> None:
        if answer.status_code in _REFUSING:
            self.close()
            raise ArchiveAway(f"{self._where()} refuses us (HTTP {answer.status_code}); see orthanc.user and password.")

    def _connected(self) -> httpx2.Client:
        if self._client is None:
            try:
                tls = client_context(self._settings, "orthanc")
                credentials = read_credentials(self._settings, "orthanc")
            except SettingsWrong as exc:
                raise ArchiveAway(str(exc)) from exc
            self._client = httpx2.Client(
                auth=httpx2.BasicAuth(credentials.user, credentials.password) if credentials.user else None,
                verify=tls if tls is not None else True,
                timeout=self._settings.timeout_s,
                limits=httpx2.Limits(keepalive_expiry=_KEPT_ALIVE_S),
                follow_redirects=False,  # a password goes where the settings say and nowhere else
                trust_env=False,
            )
        return self._client

    def _patiently(self, path: str, attempt: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except (OSError, httpx2.HTTPError, WrongAnswer, ArchiveAway) as exc:
                self.close()
                why = str(exc) if isinstance(exc, WrongAnswer | ArchiveAway) else type(exc).__name__
                if time.monotonic() + pause_s > deadline:
                    if isinstance(exc, ArchiveAway):
                        raise
                    raise ArchiveAway(f"{self._where()} does not give or take {path} ({why}).") from exc
                _LOG.warning("%s: %s; next try in %.1f s", path, why, pause_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _where(self) -> str:
        return f"Orthanc at {self._settings.url}"
