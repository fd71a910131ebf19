"""Keep what was measured, case by case, so that a run that was killed goes on. Measures nothing."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import LabelScore
from pipeline.atomic_write import write_file

SCORES_FILE = "scores.jsonl"


class JournalBusy(RuntimeError):
    """Another process writes to the same folder."""


class Journal:
    """A line of JSON for each measured case and its picture beside it, in a folder of its own."""

    def __init__(self, folder: Path, stream: TextIO, known: dict[str, tuple[LabelScore, ...]]) -> None:
        """Use `open_journal` instead."""
        self._folder = folder
        self._stream = stream
        self._known = known

    def scores(self, case_id: str) -> tuple[LabelScore, ...] | None:
        """What was measured of a case; None where it was not."""
        return self._known.get(case_id)

    def picture(self, case_id: str) -> bytes | None:
        """Its picture; None where it has none."""
        path = self._picture_path(case_id)
        return path.read_bytes() if path.is_file() else None

    def keep(self, case_id: str, labels: tuple[LabelScore, ...], picture: bytes | None) -> None:
        """Write a case for good: the picture, then the line that says that all is there. Raises OSError."""
        if picture is not None:
            write_file(self._picture_path(case_id), picture)
        line = {"case": case_id, "labels": [asdict(score) for score in labels]}
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._known[case_id] = labels

    def _picture_path(self, case_id: str) -> Path:
        return self._folder / f"{case_id}.png"


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a folder with all that was kept there. Raises JournalBusy, and OSError where it cannot be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SCORES_FILE).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            words = f"another evaluation writes to {folder}; wait for its end, or choose another --out"
            raise JournalBusy(words) from exc
        stream.seek(0)
        text = stream.read()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # killed in the middle of a line
            stream.truncate(len(whole.encode()))
        yield Journal(folder, stream, dict(_line(line) for line in whole.splitlines()))


def _line(text: str) -> tuple[str, tuple[LabelScore, ...]]:
    line = json.loads(text)
    return line["case"], tuple(_score(each) for each in line["labels"])


def _score(fields: dict[str, Any]) -> LabelScore:
    return LabelScore(**{**fields, "lesions": LesionScore(**fields["lesions"])})
