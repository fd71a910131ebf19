"""Keep what was measured, case by case, so that a run that was killed can go on."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter

from models.training.evaluation.overlays import Overlay
from models.training.evaluation.score import LabelScore
from pipeline.atomic_write import write_file
from pipeline.errors import GlionodeError

SCORES_FILE = "scores.jsonl"


class JournalBusy(GlionodeError):
    """Another process writes to the same folder."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A line of the journal: what was measured of a case, but for its picture."""

    case: str
    """Key of the case, see `EvaluationCase.journal_key`."""
    labels: tuple[LabelScore, ...]
    foci: int
    slices: tuple[int, ...] | None
    """Of the picture, see `Overlay`; None without a picture."""


class Journal:
    """A line of JSON for each measured case and its picture beside it, in a folder of its own."""

    def __init__(self, folder: Path, stream: TextIO, entries: dict[str, JournalEntry]) -> None:
        """Use `open_journal` instead."""
        self._folder = folder
        self._stream = stream
        self._entries = entries

    def entry(self, key: str) -> JournalEntry | None:
        """Return what was measured of a case; None where it was not."""
        return self._entries.get(key)

    def overlay(self, key: str) -> Overlay | None:
        """Return the picture of a case; None where it has none. Raises OSError."""
        entry = self._entries.get(key)
        if entry is None or entry.slices is None:
            return None
        return Overlay(self._picture_path(key).read_bytes(), entry.slices)

    def keep(self, key: str, labels: tuple[LabelScore, ...], foci: int, overlay: Overlay | None) -> None:
        """Write a case durably: the picture, then the line that says that it is complete. Raises OSError."""
        if overlay is not None:
            write_file(self._picture_path(key), overlay.png)
        entry = JournalEntry(key, labels, foci, None if overlay is None else overlay.slices)
        self._stream.write(json.dumps(asdict(entry), allow_nan=False) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._entries[key] = entry

    def _picture_path(self, key: str) -> Path:
        return self._folder / f"{key}.png"


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """Open the journal of a folder with all that it holds. Raises JournalBusy, and OSError where it cannot be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SCORES_FILE).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise JournalBusy(
                f"Another evaluation writes to {folder}. Wait for its end, or choose another folder."
            ) from exc
        stream.seek(0)
        text = stream.read()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # killed in the middle of a line
            stream.truncate(len(whole.encode()))
        read_line = TypeAdapter(JournalEntry).validate_json
        yield Journal(folder, stream, {entry.case: entry for entry in map(read_line, whole.splitlines())})
