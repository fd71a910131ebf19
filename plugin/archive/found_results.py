"""Find the results that are on the disk, whatever the database knows of them, and check their files."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plugin.archive.report_reader import REPORT_FILE, ReadReport, read_report
from plugin.archive.store import is_uid, results_root


@dataclass(frozen=True, slots=True)
class FoundResult:
    """A result folder with a report: its report was written last, so all of the result was there."""

    folder: Path
    report: ReadReport
    """Empty where it is damaged."""
    written_at: datetime
    """When the report was written, by its file."""


def studies_with_results(data_dir: Path) -> tuple[str, ...]:
    """Return the study instance UIDs that have a folder of results, sorted."""
    root = results_root(data_dir)
    return tuple(sorted(each.name for each in root.iterdir() if is_uid(each.name))) if root.is_dir() else ()


def find_results(data_dir: Path, study_instance_uid: str) -> tuple[FoundResult, ...]:
    """Return the results of a study, oldest first."""
    root = results_root(data_dir) / study_instance_uid
    return tuple(sorted(_read(root), key=lambda each: (each.written_at, each.folder))) if root.is_dir() else ()


def _read(root: Path) -> Iterator[FoundResult]:
    for folder in root.iterdir():
        try:
            written_at = datetime.fromtimestamp((folder / REPORT_FILE).stat().st_mtime, UTC)
        except OSError:
            continue
        report = read_report(folder)
        if report.study_instance_uid in ("", root.name):
            yield FoundResult(folder, report, written_at)


def damaged_files(result: FoundResult) -> tuple[str, ...]:
    """Return the names of the files of a result that are missing or do not have the digest that its report names."""
    return tuple(each.file for each in result.report.written if not _fits(result.folder / each.file, each.sha256))


def _fits(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    return sha256 in ("", found)
