"""Keep the table that leads from the pseudonyms of cases back to their names, beside the key and never in a data set.

KEY.names.csv is readable by its owner only, as the key is. A row is a case; of several rows for one case the last one
counts.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.training.dataset.manifest import DatasetBroken

_COLUMNS = ("case", "patient", "public", "name", "path")
_PSEUDONYM = re.compile(r"\b[0-9a-f]{16}\b")


@dataclass(frozen=True, slots=True)
class CaseSource:
    """Where a case comes from."""

    name: str
    """Name in a public data set, or the study UID."""
    path: Path
    """Folder of its images."""
    public: bool
    """Whether the name is one of a public data set, which tells of nobody and may be shown."""


@dataclass(frozen=True, slots=True)
class NamedCase:
    """A row of the table."""

    case_id: str
    patient: str
    """Keyed hash of the patient."""
    source: CaseSource


@dataclass(frozen=True, slots=True)
class CaseNames:
    """Names by pseudonym."""

    cases: Mapping[str, CaseSource] = field(default_factory=dict)

    def explained(self, sentence: str, only_public: bool) -> str:
        """Return a sentence with the name behind each pseudonym of a known case; with `only_public`, of public ones."""

        def name(match: re.Match[str]) -> str:
            source = self.cases.get(match[0])
            return match[0] if source is None or (only_public and not source.public) else f"{match[0]} ({source.name})"

        return _PSEUDONYM.sub(name, sentence)


def table_path(key: Path) -> Path:
    """Return where the table of a key lies."""
    return key.with_name(f"{key.name}.names.csv")


def add_names(key: Path, named: Iterable[NamedCase]) -> None:
    """Append cases to the table of a key, those left out that it has already. Raises DatasetBroken."""
    path = table_path(key)
    known = read_names(key).cases
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for case in named:
        source = CaseSource(case.source.name, case.source.path.resolve(), case.source.public)
        if known.get(case.case_id) != source:
            writer.writerow((case.case_id, case.patient, int(source.public), source.name, source.path))
    if not stream.getvalue():
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            os.fchmod(descriptor, 0o600)
            file.write(("" if path.stat().st_size else ",".join(_COLUMNS) + "\n") + stream.getvalue())
    except OSError as exc:
        raise DatasetBroken(f"The table of names {path} cannot be written: {exc.strerror or exc}.") from exc


def read_names(key: Path) -> CaseNames:
    """Read the table of a key; it is empty if there is none. Raises DatasetBroken if it is damaged."""
    path = table_path(key)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return CaseNames({row["case"]: _source(row) for row in rows})
    except FileNotFoundError:
        return CaseNames()
    except OSError as exc:
        raise DatasetBroken(f"The table of names {path} cannot be read: {exc.strerror or exc}.") from exc
    except (KeyError, TypeError, ValueError, csv.Error) as exc:
        raise DatasetBroken(
            f"The table of names {path} is damaged. Move it away, and make the data set again to fill a new one."
        ) from exc


def _source(row: Mapping[str, str]) -> CaseSource:
    if row["public"] not in ("0", "1"):
        raise ValueError(row["public"])
    return CaseSource(row["name"], Path(row["path"]), row["public"] == "1")
