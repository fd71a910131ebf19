"""The states of a job and the transitions between them. Pure: no database and no clock.

queued ──started──> running ──finished──> segmented | unchanged | not_eligible | failed
  ^                    │
  ├──worker lost───────┘   (after MAX_ATTEMPTS: failed, with the reason)
  ├──retried── failed | cancelled
  ├──forced── any final state
  └──result lost── any final state   (after MAX_LOSSES: not again)
queued ──outdated──> superseded
queued | running ──cancelled──> cancelled
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

MAX_ATTEMPTS = 3
"""A job that ended its worker this often is not tried again, so that it does not block other jobs."""


MAX_LOSSES = 3
"""A job whose result was lost or damaged this often is not run again for it: its disk needs a person."""


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SEGMENTED = "segmented"
    NOT_ELIGIBLE = "not_eligible"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """The instances of its study changed before it ran; a newer job has the new ones."""
    CANCELLED = "cancelled"
    """A user cancelled it."""
    UNCHANGED = "unchanged"
    """The late instances do not affect the computation; the result of an earlier job remains current."""


class JobSource(StrEnum):
    """The archive that holds the images of a job."""

    OWN = "own"
    ORTHANC = "orthanc"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})
"""The states that are not final."""
WITH_RESULT = frozenset({JobState.SEGMENTED})


@dataclass(frozen=True, slots=True)
class Job:
    """A study to be segmented, identified by its instances and the model."""

    key: str
    study_instance_uid: str
    instances_sha256: str
    model_sha256: str
    """Digest of the model package that was served when the job was made."""
    state: JobState = JobState.QUEUED
    attempts: int = 0
    """How often a worker has started it."""
    image_count: int | None = None
    """The number of instances; None for a job created by an older version."""
    trouble: str | None = None
    """Why its worker was ended during the latest attempt, as a clause; None if that is not known."""
    urgent: bool = False
    """Whether it runs before jobs that are not urgent."""
    source: JobSource = JobSource.OWN
    replacements: int = 0
    """How often an image of the study took the place of another, because its patient was corrected or it came whole."""
    repetition: int = 0
    """How often these images had been analysed with this model before: somebody asked for it, or they came again."""

    losses: int = 0
    """How often its result was lost or damaged on disk since a user last had it run."""
    result_lost: bool = False
    """Whether it runs because its result was lost; its deliveries wait for the new one."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker starts the job."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The pipeline finished the study."""

    status: str
    """"segmented", "unchanged", "not_eligible" or "failed"."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker that ran the job is gone, or the queue has no entry for the job."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The instances of the study have changed, so that another job replaces this one."""


@dataclass(frozen=True, slots=True)
class Retried:
    """A user retries the job."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A user cancels the job; a result that its worker still produces is discarded."""


@dataclass(frozen=True, slots=True)
class Forced:
    """A job that was made before it could begin, and was superseded or cancelled, is wanted after all."""


@dataclass(frozen=True, slots=True)
class ResultLost:
    """A file of the job's result is missing or damaged on disk."""


@dataclass(frozen=True, slots=True)
class Hung:
    """The worker of the running job was ended because the job made it hang."""

    reason: str


Event = Started | Finished | WorkerLost | Hung | Outdated | Retried | Cancelled | Forced | ResultLost


@dataclass(frozen=True, slots=True)
class Start:
    """Start attempt number `attempt`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Requeue:
    """Put the job back into the queue."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Queue the job as if it were new."""


@dataclass(frozen=True, slots=True)
class Record:
    """Record the final state."""

    state: JobState
    reason: str | None


@dataclass(frozen=True, slots=True)
class Ignore:
    """Do nothing."""


Action = Start | Requeue | Restart | Record | Ignore


def next_action(job: Job, event: Event) -> Action:  # noqa: PLR0911 - one for each event
    """Return what to do with `job` after `event`.

    Only a user's retry or force, and the loss of its result, change a job in a final state. Late and repeated events
    are ignored.
    """
    match event:
        case Retried():
            return Restart() if job.state in (JobState.FAILED, JobState.CANCELLED) else Ignore()
        case Forced():
            return Restart() if job.state not in OPEN else Ignore()
        case ResultLost():
            return Restart() if job.state not in OPEN and job.losses < MAX_LOSSES else Ignore()
        case _ if job.state not in OPEN:
            return Ignore()
        case Started() | WorkerLost() if job.attempts >= MAX_ATTEMPTS:
            why = f", the last time because {job.trouble}" if job.trouble else ""
            reason = f"The worker ended {job.attempts} times during this job{why}; the job is not tried again."
            return Record(JobState.FAILED, reason)
        case Started():
            return Start(job.attempts + 1)
        case WorkerLost():
            return Requeue()
        case Hung(reason):
            return Record(JobState.FAILED, reason) if job.state is JobState.RUNNING else Ignore()
        case Finished(status, reason):
            return Record(JobState(status), reason)
        case Outdated():
            return Record(JobState.SUPERSEDED, None) if job.state is JobState.QUEUED else Ignore()
        case Cancelled():
            return Record(JobState.CANCELLED, None)


def no_images_reason(other_instances: int) -> str:
    """Return why a study is not eligible that contains no MR images but this many other instances."""
    return f"The study contains no MR images ({other_instances} instances of other kinds)."


def new_job(
    study_instance_uid: str,
    sop_instance_uids: Iterable[str],
    model_sha256: str,
    urgent: bool = False,
    source: JobSource = JobSource.OWN,
    replacements: int = 0,
) -> Job:
    """Return the job of a study with these instances and this model.

    The key depends on study, instances, their replacements and the model alone, not on the order of the instances.
    """
    uids = sorted(sop_instance_uids)
    names = [*uids, f"replaced {replacements}"] if replacements else uids
    instances = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return Job(
        *(_key(study_instance_uid, instances, model_sha256, 0), study_instance_uid, instances, model_sha256),
        image_count=len(uids),
        urgent=urgent,
        source=source,
        replacements=replacements,
    )


def repeated(job: Job, repetition: int) -> Job:
    """Return the job that analyses the images of `job` for the nth time: another key, and so a result of its own."""
    key = _key(job.study_instance_uid, job.instances_sha256, job.model_sha256, repetition)
    return replace(job, key=key, repetition=repetition)


def _key(study_instance_uid: str, instances_sha256: str, model_sha256: str, repetition: int) -> str:
    parts = [instances_sha256, model_sha256, *([f"repetition {repetition}"] if repetition else [])]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{study_instance_uid}-{digest[:16]}"
