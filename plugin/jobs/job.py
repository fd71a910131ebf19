"""What a job is and what happens to it next. Pure: no database, no clock, no DICOM.

queued ──taken──> running ──finished──> segmented | unchanged | not_eligible | failed
  ^                  │
  ├──worker lost─────┘   (after MAX_ATTEMPTS: failed, with the reason)
  ├──retried── failed | cancelled
  └──forced── any that is over
queued ──other instances──> superseded
queued | running ──cancelled──> cancelled
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_ATTEMPTS = 3
"""A job that ended its worker this often is left alone, so that its neighbours get their turn."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SEGMENTED = "segmented"
    NOT_ELIGIBLE = "not_eligible"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """Its study had other instances before it was run; a newer job has those."""
    CANCELLED = "cancelled"
    """A person wanted it to end."""
    UNCHANGED = "unchanged"
    """What came late is nothing that is computed from; the result of an earlier job stands."""


class Source(StrEnum):
    """Which archive has a job's images."""

    OWN = "own"
    ORTHANC = "orthanc"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})
WITH_RESULT = frozenset({JobState.SEGMENTED})


@dataclass(frozen=True, slots=True)
class Job:
    """A study with the instances and the model that it is to be segmented with."""

    key: str
    study_instance_uid: str
    instances_sha256: str
    model_sha256: str
    state: JobState = JobState.QUEUED
    attempts: int = 0
    """How often a worker has begun it."""
    image_count: int | None = None
    """How many instances those are; None for a job of an older version."""
    trouble: str | None = None
    """Why its worker was ended the last time, a clause; None where that is not known."""
    urgent: bool = False
    """Whether it goes before those that are not."""
    source: Source = Source.OWN


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker has the job in hand."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The pipeline came to an end with the study."""

    status: str
    """"segmented", "unchanged", "not_eligible" or "failed"."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker that had the job is gone, or the queue lost it."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The study has other instances by now; another job has those."""


@dataclass(frozen=True, slots=True)
class Retried:
    """A person wants it tried again."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person wants it to end; what its worker still comes to is not kept."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Its study is to be segmented with these instances, whatever came of it before."""


Event = Taken | Finished | WorkerLost | Outdated | Retried | Cancelled | Forced


@dataclass(frozen=True, slots=True)
class Run:
    """Run it now; it is attempt number `attempt`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Requeue:
    """Put it back into the queue."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Put it into the queue as if it were new."""


@dataclass(frozen=True, slots=True)
class Record:
    """It is over: write this down."""

    state: JobState
    reason: str | None


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is to be done."""


Action = Run | Requeue | Restart | Record | Leave


def next_action(job: Job, event: Event) -> Action:  # noqa: PLR0911 - one for each event
    """What to do with `job` after `event`. A job that is over stays so, whatever comes twice or late; a person may
    take it up again.
    """
    match event:
        case Retried():
            return Restart() if job.state in (JobState.FAILED, JobState.CANCELLED) else Leave()
        case Forced():
            return Restart() if job.state not in OPEN else Leave()
        case _ if job.state not in OPEN:
            return Leave()
        case Taken() | WorkerLost() if job.attempts >= MAX_ATTEMPTS:
            why = f", at last because {job.trouble}" if job.trouble else ""
            reason = f"its worker ended {job.attempts} times while at it{why}; it is not tried again"
            return Record(JobState.FAILED, reason)
        case Taken():
            return Run(job.attempts + 1)
        case WorkerLost():
            return Requeue()
        case Finished(status, reason):
            return Record(JobState(status), reason)
        case Outdated():
            return Record(JobState.SUPERSEDED, None) if job.state is JobState.QUEUED else Leave()
        case Cancelled():
            return Record(JobState.CANCELLED, None)


def new_job(
    study_instance_uid: str,
    sop_instance_uids: Iterable[str],
    model_sha256: str,
    urgent: bool = False,
    source: Source = Source.OWN,
) -> Job:
    """The job of a study with these instances and this model; same inputs, same key, in whatever order they come."""
    uids = sorted(sop_instance_uids)
    instances = hashlib.sha256("\n".join(uids).encode()).hexdigest()
    digest = hashlib.sha256(f"{instances}\n{model_sha256}".encode()).hexdigest()
    key = f"{study_instance_uid}-{digest[:16]}"
    return Job(key, study_instance_uid, instances, model_sha256, image_count=len(uids), urgent=urgent, source=source)
