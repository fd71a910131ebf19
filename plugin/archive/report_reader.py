"""What a `report.json` says, read back. A folder without one, or with a damaged one, says nothing; that is no error."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class ChosenSeries:
    """The series that was taken for a role; its description stays out, for people write into it."""

    role: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A DICOM file that was written."""

    file: str
    """Relative to the folder."""
    sop_class_uid: str
    sop_instance_uid: str = ""
    """Empty in a report of an older version, as is the series."""
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """The part of a report that goes beyond its folder: UIDs and names of files, no text of a header."""

    chosen: tuple[ChosenSeries, ...] = ()
    written: tuple[WrittenFile, ...] = ()
    images_sha256: str | None = None
    """What was computed from; None where it did not come to that."""
    same_as: str | None = None
    """Key of the job whose result stands instead of a new one."""


def read_report(folder: Path) -> ReadReport:
    """What the report in `folder` says was chosen and written."""
    try:
        document: Any = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        return ReadReport(
            tuple(
                ChosenSeries(str(role), str(entry["series_instance_uid"])) for role, entry in document["roles"].items()
            ),
            tuple(
                WrittenFile(
                    *(str(each["path"]), str(each["sop_class_uid"])),
                    *(str(each.get("sop_instance_uid", "")), str(each.get("series_instance_uid", ""))),
                )
                for each in document["outputs"]
            ),
            document.get("images_sha256"),
            document.get("same_as"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ReadReport()
