"""What the node knows of a study's earlier jobs, for the job that is run now: whose result may stand, and what a new
result takes the place of. Reads and writes rows; runs nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

import psycopg

from dicom_seg.predecessor import Predecessor
from plugin.archive.report_reader import ReadReport
from plugin.jobs.job import Finished, Job, JobState

Connection = psycopg.Connection[Any]

_REPORT_CLASSES = "1.2.840.10008.5.1.4.1.1.88."
"""SOP classes of structured reports begin so (PS3.4 B.5)."""


@dataclass(frozen=True, slots=True)
class PriorResults:
    """What came before a job. The same at each of its attempts, so that they give the same bytes."""

    started: datetime
    """When the job was queued: what its objects say as the beginning of the analysis."""
    standing: Mapping[str, str] = field(default_factory=dict)
    """Keys of earlier segmented jobs with the same model, by what their result was computed from."""
    predecessors: tuple[Predecessor, ...] = ()
    """Reports of the latest of the earlier segmented jobs."""
    purged_on: date | None = None
    """When images of the study were last removed; None where they never were."""


def read_past(connection: Connection, job: Job) -> PriorResults:
    """What came before `job`, which is in the database."""
    row = connection.execute("SELECT created_at FROM glionode_jobs WHERE key = %s", (job.key,)).fetchone()
    assert row is not None, "rows of jobs are never removed"
    started: datetime = row[0]
    earlier = connection.execute(
        "SELECT key, state, model_sha256, images_sha256, reports, purged_at FROM glionode_jobs "
        "WHERE study_instance_uid = %s AND key <> %s AND created_at <= %s ORDER BY created_at, key",
        (job.study_instance_uid, job.key, started),
    ).fetchall()
    segmented = [each for each in earlier if each[1] == JobState.SEGMENTED]
    purges = [purged_at for *_, purged_at in earlier if purged_at is not None]
    return PriorResults(
        started=started.astimezone(),
        standing={images: key for key, _, model, images, *_ in segmented if images and model == job.model_sha256},
        predecessors=tuple(Predecessor(**each) for each in segmented[-1][4] or ()) if segmented else (),
        purged_on=max(purges).date() if purges else None,
    )


def remember(connection: Connection, key: str, report: ReadReport) -> None:
    """Write down of a job what the later ones of its study ask for."""
    reports = [
        Predecessor(each.file, each.series_instance_uid, each.sop_class_uid, each.sop_instance_uid)
        for each in report.written
        if each.sop_class_uid.startswith(_REPORT_CLASSES) and each.sop_instance_uid
    ]
    connection.execute(
        "UPDATE glionode_jobs SET images_sha256 = %s, same_as = %s, reports = %s WHERE key = %s",
        (report.images_sha256, report.same_as, json.dumps([asdict(each) for each in reports]), key),
    )


def explained(finished: Finished, past: PriorResults) -> Finished:
    """An outcome with what the past says of its reason: what is missing may have been purged."""
    if finished.status not in (JobState.NOT_ELIGIBLE, JobState.FAILED) or past.purged_on is None:
        return finished
    why = (
        f"Earlier images of the study were purged on {past.purged_on.isoformat()}; if these are to be segmented with "
        "them, send the whole study again."
    )
    return replace(finished, reason=f"{finished.reason} {why}" if finished.reason else why)
