"""Decide whether a study may be removed from the disk. Pure functions of facts that the caller has read."""

from collections.abc import Sequence
from dataclasses import dataclass

from plugin.jobs.job import OPEN, JobState

DELIVERED = frozenset({"sent", "committed"})
"""States of an outbox row that needs no more work. A row that waits for commitment has another one."""
_OVER = DELIVERED | {"withdrawn"}


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The facts of a job that the decision depends on."""

    state: JobState
    instances_sha256: str
    superseded: bool
    """Whether a later job of the study has replaced it."""
    deliveries: frozenset[str] = frozenset()
    """The states of its outbox rows."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """The facts of a study that the decision depends on."""

    jobs: Sequence[JobFacts]
    instances_sha256: str | None
    """Hash of the images that are in the archive now; None without images."""
    last_change: float
    """When its last image arrived or the last of its jobs or deliveries ended, in seconds since 1970."""


def reason_to_keep(study: StudyFacts, now: float, older_than_s: float) -> str | None:  # noqa: PLR0911 - one for each reason
    """Return why a study must stay, a clause; None where it is finished and its results are delivered."""
    # A time that is still to come is that of a clock which was set back: it says nothing of the age but that it is one.
    if now - min(now, study.last_change) < older_than_s:
        return "it is not old enough"
    if any(job.state in OPEN for job in study.jobs):
        return "a job of it waits or runs"
    if study.instances_sha256 is not None and study.instances_sha256 not in {j.instances_sha256 for j in study.jobs}:
        return "it has images that no job has taken yet"
    if any(job.state is JobState.FAILED and not job.superseded for job in study.jobs):
        return "its job failed"
    if any(job.deliveries - _OVER for job in study.jobs):
        return "not all of its results are delivered"
    if any(job.state is JobState.SEGMENTED and not job.deliveries for job in study.jobs):
        return "its results were sent nowhere, so they are only here"
    return None


def reason_to_keep_requested(study: StudyFacts) -> str | None:
    """Return why a study that a person named must stay; None unless a job may still read it."""
    return "a job of it waits or runs; cancel it first" if any(job.state in OPEN for job in study.jobs) else None
