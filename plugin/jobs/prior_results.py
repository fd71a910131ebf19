"""The results of earlier jobs of a study, as the next job of that study needs them.

They tell whether an earlier result is still current, and which reports a new result replaces.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from dicom_seg.predecessor import Predecessor
from plugin.archive.report_reader import ReadReport, ReportedJob
from plugin.jobs.job import Finished, Job, JobState

if TYPE_CHECKING:
    from plugin.database.pool import Connection  # `glionode segment` needs no database

_REPORT_CLASSES = "1.2.840.10008.5.1.4.1.1.88."
"""Prefix of the SOP class UIDs of structured reports (PS3.4 B.5)."""


@dataclass(frozen=True, slots=True)
class PriorResults:
    """The results of the jobs before a job. They are the same at each attempt, so all attempts write equal bytes."""

    started: datetime
    """When the job began for the first time; its objects state this as the start of the analysis."""
    current_results: Mapping[str, str] = field(default_factory=dict)
    """Keys of earlier segmented jobs with the same model whose results are here, by the checksum of the images they
    were computed from."""
    predecessors: tuple[Predecessor, ...] = ()
    """The reports of the latest earlier job that was segmented."""
    purged_on: date | None = None
    """When images of the study were last purged; None if they never were."""
    earlier_results: int = 0
    """How many earlier jobs have a result: its series have numbers in the study."""
    job: ReportedJob | None = None
    """The job itself, for its report; None where no job is run."""


def read_prior_results(connection: "Connection", job: Job) -> PriorResults:
    """Return the results of the jobs that came before `job`, which must be in the database."""
    row = connection.execute(
        "SELECT created_at, coalesce(analysis_started_at, created_at) FROM glionode_jobs WHERE key = %s", (job.key,)
    ).fetchone()
    assert row is not None, "rows of jobs are never removed"
    created: datetime = row[0]
    started: datetime = row[1]
    earlier = connection.execute(
        "SELECT key, state, model_sha256, images_sha256, reports, purged_at FROM glionode_jobs "
        "WHERE study_instance_uid = %s AND key <> %s AND created_at <= %s ORDER BY created_at, key",
        (job.study_instance_uid, job.key, created),
    ).fetchall()
    segmented = [each for each in earlier if each[1] == JobState.SEGMENTED]
    with_result = [each for each in earlier if each[1] == JobState.SEGMENTED or each[4]]
    purges = [purged_at for *_, purged_at in earlier if purged_at is not None]
    return PriorResults(
        started=started.astimezone(),
        current_results={
            images: key
            for key, _, model, images, _, purged_at in segmented
            if images and model == job.model_sha256 and purged_at is None
        },
        predecessors=tuple(Predecessor(**each) for each in with_result[-1][4] or ()) if with_result else (),
        purged_on=max(purges).date() if purges else None,
        earlier_results=len(with_result),
        job=ReportedJob(
            *(job.key, job.instances_sha256, job.model_sha256, job.image_count, job.source.value),
            *(job.replacements, job.repetition),
            queued_at=created,
            started_at=started,
        ),
    )


def record_for_later_jobs(connection: "Connection", key: str, report: ReadReport) -> None:
    """Store what later jobs of the same study need to know about a job's result.

    A run that writes nothing leaves the reports of an earlier run, which the PACS has or gets.
    """
    reports = [
        Predecessor(each.file, each.series_instance_uid, each.sop_class_uid, each.sop_instance_uid)
        for each in report.written
        if each.sop_class_uid.startswith(_REPORT_CLASSES) and each.sop_instance_uid
    ]
    connection.execute(
        "UPDATE glionode_jobs SET images_sha256 = %s, same_as = %s, package_sha256 = %s, "
        "reports = coalesce(%s::jsonb, reports) WHERE key = %s",
        (
            report.images_sha256,
            report.same_as,
            report.package_sha256,
            json.dumps([asdict(each) for each in reports]) if report.written else None,
            key,
        ),
    )


def with_purge_reason(finished: Finished, prior_results: PriorResults) -> Finished:
    """Return an outcome whose reason mentions an earlier purge, which may explain missing images."""
    if finished.status not in (JobState.NOT_ELIGIBLE, JobState.FAILED) or prior_results.purged_on is None:
        return finished
    why = (
        f"Earlier images of the study were purged on {prior_results.purged_on.isoformat()}; to segment these together "
        "with them, send the whole study again."
    )
    return replace(finished, reason=f"{finished.reason} {why}" if finished.reason else why)
