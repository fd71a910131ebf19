"""Marks studies in Orthanc with what became of them: metadata whose number the settings name, a line of JSON.

Compares rows with what was marked, so that neither a restart nor an Orthanc that is away loses a mark.
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
from plugin.orthanc.client import MetadataRefused, OrthancClient
from plugin.orthanc.studies import orthanc_ids_of
from plugin.settings.sections import OrthancSettings

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 10.0
_BATCH = 20
_REFUSED_AGAIN_AFTER_S = 600.0
"""A mark that Orthanc does not take keeps no other waiting meanwhile."""


class OrthancMarks:
    """Looks for jobs of Orthanc's studies that have ended, in a thread of its own."""

    def __init__(self, pool: ConnectionPool, settings: OrthancSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._away = False
        self._refused: dict[str, float] = {}
        """Keys of jobs whose mark Orthanc did not take, with the monotonic seconds when it is tried again."""

    def run(self, stop: threading.Event) -> None:
        """Mark until `stop`. What goes wrong is logged and tried again."""
        while not stop.is_set():
            pause_s = _LOOK_EVERY_S
            try:
                self.look()
                self._away = False
            except ArchiveUnavailable as exc:
                if not self._away:
                    _LOG.warning("studies in Orthanc are not marked for now: %s", exc)
                self._away, pause_s = True, _AGAIN_AFTER_S
            except (psycopg.Error, PoolTimeout) as exc:
                _LOG.error("marking studies in Orthanc lost the database (%s)", type(exc).__name__)
                pause_s = _AGAIN_AFTER_S
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next look makes it good
                _LOG.error("marking studies in Orthanc failed (%s); it is tried again", type(exc).__name__)
                pause_s = _AGAIN_AFTER_S
            stop.wait(pause_s)

    def look(self) -> int:
        """Mark what has ended since; returns how many were tried. Raises ArchiveUnavailable."""
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
                    _LOG.warning("job %s is not marked in Orthanc for now: %s", row["key"], exc)
                    self._refused[row["key"]] = now + _REFUSED_AGAIN_AFTER_S
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
        for orthanc_id in orthanc_ids_of(client, row["study_instance_uid"]):
            try:
                client.put_metadata(f"/studies/{orthanc_id}/metadata/{self._settings.metadata}", text.encode())
            except NotInArchive:  # it was deleted just now
                continue
        with self._pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET marked_at = finished_at WHERE key = %s AND finished_at = %s",
                (row["key"], row["finished_at"]),
            )
