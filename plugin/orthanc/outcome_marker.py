"""Mark studies in Orthanc with their outcome: a line of JSON in metadata whose number the settings give, and a label.

Each job's row says when its study was marked, so no mark is lost when the node restarts or Orthanc is down.
"""

import json
import logging
import threading
import time
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.jobs.job import JobState
from plugin.logs import Outage
from plugin.orthanc.client import MetadataRefused, OrthancClient
from plugin.orthanc.studies import find_orthanc_ids
from plugin.settings.sections import OrthancSettings

_LOG = logging.getLogger(__name__)

_POLL_EVERY_S = 1.0
_RETRY_AFTER_S = 10.0
_BATCH = 20
_RETRY_REFUSED_AFTER_S = 600.0
"""Until a mark that Orthanc refused is tried again, others go ahead."""
_LABEL_PREFIX = "glionode-"


class OutcomeMarker:
    """Marks studies from Orthanc whose jobs have ended, in a thread of its own."""

    def __init__(self, pool: ConnectionPool, settings: OrthancSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._outage = Outage(_LOG, "marking studies in Orthanc")
        self._refused: dict[str, float] = {}
        """Keys of jobs whose mark Orthanc refused, with the time of the next attempt (monotonic seconds)."""

    def run(self, stop: threading.Event) -> None:
        """Mark studies until `stop` is set. Errors are logged, and the next round tries again."""
        while not stop.is_set():
            pause_s = _POLL_EVERY_S
            try:
                self.mark_ended()
                self._outage.works()
            except ArchiveUnavailable as exc:
                self._outage.failed(str(exc))
                pause_s = _RETRY_AFTER_S
            except (psycopg.Error, PoolTimeout) as exc:
                self._outage.failed(f"the database does not answer ({type(exc).__name__})", level=logging.ERROR)
                pause_s = _RETRY_AFTER_S
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next round tries again
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
                pause_s = _RETRY_AFTER_S
            stop.wait(pause_s)

    def mark_ended(self) -> int:
        """Mark the studies of jobs that have ended since; return how many were tried. Raises ArchiveUnavailable."""
        now = time.monotonic()
        self._refused = {key: again for key, again in self._refused.items() if again > now}
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                "SELECT key, study_instance_uid, state, reason, finished_at, model_sha256 FROM glionode_jobs "
                "WHERE source = 'orthanc' AND (marked_at IS NULL OR marked_at < finished_at) "
                "AND finished_at IS NOT NULL AND state <> 'superseded' AND key <> ALL(%s) "
                "ORDER BY finished_at LIMIT %s",
                (list(self._refused), _BATCH),
            )
            rows = cursor.fetchall()
        if not rows:
            return 0
        client = OrthancClient(self._settings, patience_s=0)
        try:
            for row in rows:
                try:
                    self._mark(client, row)
                except MetadataRefused as exc:
                    _LOG.warning("the study of job %s cannot be marked in Orthanc at the moment: %s", row["key"], exc)
                    self._refused[row["key"]] = now + _RETRY_REFUSED_AFTER_S
        finally:
            client.close()
        return len(rows)

    def _mark(self, client: OrthancClient, row: dict[str, Any]) -> None:
        text = json.dumps(
            {
                "state": row["state"],
                "reason": row["reason"],
                "job": row["key"],
                "model_sha256": row["model_sha256"],
                "at": row["finished_at"].isoformat(timespec="seconds"),
            }
        )
        for orthanc_id in find_orthanc_ids(client, row["study_instance_uid"]):
            try:
                client.put_metadata(f"/studies/{orthanc_id}/metadata/{self._settings.metadata}", text.encode())
                if self._settings.labels:
                    client.set_label(f"/studies/{orthanc_id}", _LABEL_PREFIX, _label(JobState(row["state"])))
            except NotInArchive:  # it was deleted meanwhile
                continue
        with self._pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET marked_at = finished_at WHERE key = %s AND finished_at = %s",
                (row["key"], row["finished_at"]),
            )


def _label(state: JobState) -> str:
    """Return the label of a state, in the characters that Orthanc allows: letters, digits, hyphen and underscore."""
    # Late images that change nothing leave the study with the result that it has.
    return _LABEL_PREFIX + (JobState.SEGMENTED if state is JobState.UNCHANGED else state).replace("_", "-")
