"""Read `report.json` back. A missing or damaged report is read as an empty one."""

import json
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.remarks import RemarkKind

REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class ReportedJob:
    """The job that made a result, as its report keeps it: enough to write its row into a database that lost it."""

    key: str
    instances_sha256: str
    """Digest of the images of the study."""
    model_sha256: str
    """Digest of the model package that was served when the job was made."""
    image_count: int | None
    source: str
    """The archive that holds the images, see `plugin.jobs.job.JobSource`."""
    replacements: int
    repetition: int
    queued_at: datetime
    started_at: datetime
    """When the analysis began."""


@dataclass(frozen=True, slots=True)
class ChosenSeries:
    """The series that was chosen for a role, without its description, in which people may have written names."""

    role: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A DICOM file that was written."""

    file: str
    """Path relative to the folder of the report."""
    sop_class_uid: str
    sop_instance_uid: str = ""
    """Empty in a report of an older version, as is the series."""
    series_instance_uid: str = ""
    sha256: str = ""
    """Digest of the file; empty in a report of an older version."""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """The part of a report that is shown outside its folder: UIDs, file names and remarks, no text of a header."""

    chosen: tuple[ChosenSeries, ...] = ()
    written: tuple[WrittenFile, ...] = ()
    images_sha256: str | None = None
    """Hash of the images that the result was computed from; None without one."""
    same_as: str | None = None
    """Key of the job with the current result, where this report has no new one."""
    remarks: tuple[str, ...] = ()
    """Sentences that go with the result; none in a report of an older version."""
    empty: bool = False
    """Whether a remark says that nothing was found."""
    study_instance_uid: str = ""
    """Empty for a missing or damaged report."""
    package_sha256: str | None = None
    """SHA-256 of the model.toml of the package that made the result; None in a report of an older version."""
    model_sha256: str = ""
    """SHA-256 of the weights."""
    intended_use: str = ""
    """What the model was for."""
    status: str = ""
    reason: str | None = None
    job: ReportedJob | None = None
    """None without a job, and in a report of an older version."""


def read_report(folder: Path) -> ReadReport:
    """Return what the report in `folder` names as chosen and written."""
    try:
        document: Any = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        return ReadReport(
            tuple(
                ChosenSeries(str(role), str(entry["series_instance_uid"])) for role, entry in document["roles"].items()
            ),
            tuple(
                WrittenFile(
                    str(each["path"]),
                    str(each["sop_class_uid"]),
                    str(each.get("sop_instance_uid", "")),
                    str(each.get("series_instance_uid", "")),
                    str(each.get("sha256", "")),
                )
                for each in document["outputs"]
            ),
            document.get("images_sha256"),
            document.get("same_as"),
            tuple(str(each["text"]) for each in document.get("remarks", ())),
            any(each["kind"] == RemarkKind.EMPTY for each in document.get("remarks", ())),
            str(document.get("study_instance_uid", "")),
            document.get("model", {}).get("package_sha256"),
            str(document.get("model", {}).get("sha256", "")),
            str(document.get("model", {}).get("intended_use", "")),
            str(document.get("status", "")),
            document.get("reason"),
            _job(document["job"]) if document.get("job") else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ReadReport()


def _job(document: dict[str, Any]) -> ReportedJob:
    known = {each.name: document[each.name] for each in fields(ReportedJob)}  # a newer version may write more
    times = {name: datetime.fromisoformat(document[name]) for name in ("queued_at", "started_at")}
    return ReportedJob(**{**known, **times})
