"""Let the Orthanc script, run as a hosted plugin, reach the node in its own process instead of over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from plugin.archive.study_inputs import read_inputs
from plugin.jobs.job import JobState, new_job, no_images_reason
from plugin.jobs.queue import JobQueue
from plugin.orthanc.intake import Submission, describe_outcome, describe_status
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.levels import IDENTIFYING_TAG, Level
from plugin.orthanc_script.node_client import NodeUnavailable, StudyUnknown


class LocalNode:
    """Implements `plugin.orthanc_script.node_client.Node`. Thread-safe."""

    def __init__(self, host: EmbeddedHost, queue: JobQueue, model_sha256: str) -> None:
        self._host = host
        self._queue = queue
        self._model_sha256 = model_sha256

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Add a job for a study, as the node does when the study is complete."""
        uid = self._uid(study)
        inputs = read_inputs(self._host.archive, uid)
        job = new_job(uid, inputs.sop_instance_uids, self._model_sha256, urgent, replacements=inputs.replacements)
        with _errors_as_unavailable():
            if inputs.paths:
                added = self._queue.add(job, again=force)
            else:
                added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, no_images_reason(inputs.other_instances))
            found = added or self._queue.standing(job)
            current = self._queue.find(found.key)
        state = current.state.value if current is not None else "unknown"
        return asdict(Submission(uid, found.key, added is not None, state))

    def outcome(self, study: str) -> dict[str, Any]:
        """Read the state of a study's newest job from the database."""
        uid = self._uid(study)
        with _errors_as_unavailable():
            return describe_outcome(self._host.store.pool, uid)

    def status(self) -> dict[str, Any]:
        """Read the numbers of jobs and deliveries from the database."""
        with _errors_as_unavailable():
            return describe_status(self._host.store.pool)

    def abort(self) -> None:
        """Do nothing: no request to this process takes long."""

    def _uid(self, study: str) -> str:
        found = self._host.index.find(Level.STUDY, study)
        if found is None:
            raise StudyUnknown
        return found.text(IDENTIFYING_TAG[Level.STUDY])


@contextmanager
def _errors_as_unavailable() -> Iterator[None]:
    """Raise NodeUnavailable where the database does not answer."""
    try:
        yield
    except (psycopg.Error, PoolTimeout) as exc:
        raise NodeUnavailable(f"The node's database does not answer ({type(exc).__name__}).") from exc
