"""The transitions between the states of a job."""

from dataclasses import replace

import pytest

from plugin.jobs.job import (
    MAX_ATTEMPTS,
    MAX_LOSSES,
    Cancelled,
    Event,
    Finished,
    Forced,
    Ignore,
    Job,
    JobState,
    Outdated,
    Record,
    Requeue,
    Restart,
    ResultLost,
    Retried,
    Start,
    Started,
    WorkerLost,
    new_job,
    next_action,
)

JOB = new_job("1.2.3", ["1.2.3.1", "1.2.3.2"], "a" * 64)
RUNNING = replace(JOB, state=JobState.RUNNING, attempts=1)
EVENTS = (Started(), Finished("segmented", None), WorkerLost(), Outdated(), Cancelled())


def test_the_key_follows_from_study_instances_and_model_alone() -> None:
    assert new_job("1.2.3", ["1.2.3.2", "1.2.3.1"], "a" * 64) == JOB
    others = (
        new_job("1.2.4", ["1.2.3.1", "1.2.3.2"], "a" * 64),
        new_job("1.2.3", ["1.2.3.1"], "a" * 64),
        new_job("1.2.3", ["1.2.3.1", "1.2.3.2"], "a" * 64, replacements=1),
        new_job("1.2.3", ["1.2.3.1", "1.2.3.2"], "b" * 64),
    )
    assert len({JOB.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize("state", [state for state in JobState if state not in (JobState.QUEUED, JobState.RUNNING)])
@pytest.mark.parametrize("event", EVENTS)
def test_a_final_state_does_not_change(state: JobState, event: Event) -> None:
    assert next_action(replace(JOB, state=state), event) == Ignore()


def test_a_queued_job_is_started() -> None:
    assert next_action(JOB, Started()) == Start(1)


@pytest.mark.parametrize("status", ["segmented", "not_eligible", "failed"])
def test_an_outcome_is_recorded_with_its_reason(status: str) -> None:
    assert next_action(RUNNING, Finished(status, "why")) == Record(JobState(status), "why")


def test_the_job_of_a_lost_worker_is_requeued() -> None:
    assert next_action(RUNNING, WorkerLost()) == Requeue()


def test_a_job_that_keeps_ending_its_worker_fails() -> None:
    job, runs, action = JOB, 0, next_action(JOB, Started())
    while isinstance(action, Start) and runs < 10:
        runs += 1
        running = replace(job, state=JobState.RUNNING, attempts=action.attempt)
        action = next_action(running, WorkerLost())
        if isinstance(action, Requeue):
            job = replace(running, state=JobState.QUEUED)
            action = next_action(job, Started())
    assert runs == MAX_ATTEMPTS
    assert isinstance(action, Record)
    assert action.state is JobState.FAILED
    assert "3 times" in (action.reason or "")


def test_the_reason_of_a_failed_job_says_why_its_worker_ended() -> None:
    action = next_action(replace(RUNNING, attempts=MAX_ATTEMPTS, trouble="it took too long"), WorkerLost())
    assert isinstance(action, Record)
    assert "3 times during this job, the last time because it took too long;" in (action.reason or "")


@pytest.mark.parametrize(("job", "action"), [(JOB, Record(JobState.SUPERSEDED, None)), (RUNNING, Ignore())])
def test_only_a_queued_job_is_superseded(job: Job, action: object) -> None:
    assert next_action(job, Outdated()) == action


@pytest.mark.parametrize("state", JobState)
def test_a_user_retries_failed_jobs_and_forces_final_ones(state: JobState) -> None:
    job = replace(JOB, state=state, attempts=MAX_ATTEMPTS)
    is_open = state in (JobState.QUEUED, JobState.RUNNING)
    retried = state in (JobState.FAILED, JobState.CANCELLED)
    assert next_action(job, Retried()) == (Restart() if retried else Ignore())
    assert next_action(job, Forced()) == (Ignore() if is_open else Restart())


@pytest.mark.parametrize("state", JobState)
def test_a_job_whose_result_was_lost_runs_again_but_not_for_ever(state: JobState) -> None:
    job = replace(JOB, state=state, attempts=MAX_ATTEMPTS)
    is_open = state in (JobState.QUEUED, JobState.RUNNING)
    for losses in range(MAX_LOSSES + 2):
        again = not is_open and losses < MAX_LOSSES
        assert next_action(replace(job, losses=losses), ResultLost()) == (Restart() if again else Ignore())


@pytest.mark.parametrize("job", [JOB, RUNNING])
def test_an_open_job_is_cancelled(job: Job) -> None:
    assert next_action(job, Cancelled()) == Record(JobState.CANCELLED, None)
