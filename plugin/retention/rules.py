"""Whether a study may be removed from the disk. Pure: no database, no files, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from plugin.jobs.job import OPEN, JobState

DELIVERED = frozenset({"sent", "committed"})
"""States of an outbox row after which nothing is to be done for it; one that waits for commitment is in neither."""


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What of a job decides about its study."""

    state: JobState
    instances_sha256: str
    superseded: bool
    """Whether a later job of the study has taken its place."""
    deliveries: frozenset[str] = frozenset()
    """States of its rows in the outbox."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What decides about a study."""

    jobs: Sequence[JobFacts]
    instances_sha256: str | None
    """Of the images that lie in the archive now; None where none do."""
    last_change: float
    """When its last image came or the last of its jobs or deliveries ended, seconds since 1970."""


def why_kept(study: StudyFacts, now: float, older_than_s: float) -> str | None:  # noqa: PLR0911 - one for each reason
    """Why a study stays, a clause; None where it may be removed: all of it is over, and what it gave is delivered."""
    if now - study.last_change < older_than_s:
        return "it is not old enough"
    if any(job.state in OPEN for job in study.jobs):
        return "a job of it waits or runs"
    if study.instances_sha256 is not None and study.instances_sha256 not in {j.instances_sha256 for j in study.jobs}:
        return "it has images that no job has taken yet"
    if any(job.state is JobState.FAILED and not job.superseded for job in study.jobs):
        return "its job failed"
    if any(job.deliveries - DELIVERED for job in study.jobs):
        return "not all of its results are delivered"
    if any(job.state is JobState.SEGMENTED and not job.deliveries for job in study.jobs):
        return "its results were sent nowhere, so they are only here"
    return None


def why_kept_though_named(study: StudyFacts) -> str | None:
    """Why a study stays that a person named; only what a job may have in hand does."""
    return "a job of it waits or runs; cancel it first" if any(job.state in OPEN for job in study.jobs) else None
