"""Remove received images and results of finished studies from the disk. The rows of their jobs stay in the database.

A study is first taken away (see taken_study.py), so that nothing is added to it, and checked a last time, because an
image may have arrived meanwhile. The transaction that changes its rows records the decision; then it is removed.
"""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from plugin.archive.store import EmbeddedArchive, is_uid, results_root
from plugin.database import audit_log, instance_rows
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.purge_lock import may_purge
from plugin.jobs import unadopted
from plugin.jobs.archive_index import read_inputs_by_index
from plugin.jobs.job import JobState, new_job
from plugin.retention.rules import DELIVERED, JobFacts, StudyFacts, reason_to_keep, reason_to_keep_requested
from plugin.retention.taken_study import PURGING, TakenStudy, new_taken_study, put_back, taken_studies

_LOG = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]

_BACKUP = "a backup is being made"


@dataclass(frozen=True, slots=True)
class PurgedStudy:
    """A study that was removed, or would have been without `dry_run`."""

    study_instance_uid: str
    files: int
    freed_bytes: int
    undelivered: int = 0
    """Deliveries (an object to a destination) that wait, are held or were given up, and are dropped with it."""


@dataclass(frozen=True, slots=True)
class KeptStudy:
    """A study that was not removed, and why."""

    study_instance_uid: str
    why: str


class Purger:
    """Removes studies from a data folder; may run beside a running node and beside another purger."""

    def __init__(self, data_dir: Path, pool: ConnectionPool) -> None:
        self._data_dir = data_dir
        self._archive = EmbeddedArchive(data_dir / "archive", minimum_free_bytes=0)
        self._pool = pool

    def studies(self) -> tuple[str, ...]:
        """Return the studies with images or results on the disk, the one first that got its last image longest ago."""
        roots = (self._data_dir / "archive", results_root(self._data_dir))
        found = {entry.name for root in roots if root.is_dir() for entry in os.scandir(root) if is_uid(entry.name)}
        return tuple(sorted(found, key=lambda study: (self._last_received(study), study)))

    def purge(self, study: str, now: float, older_than_s: float, dry_run: bool) -> PurgedStudy | KeptStudy:
        """Remove a study if it is finished, delivered and unchanged for `older_than_s` seconds at the time `now`."""
        if now - min(now, self._last_received(study)) < older_than_s:  # saves a query
            return KeptStudy(study, "it is not old enough")
        return self._purge(study, lambda facts: reason_to_keep(facts, now, older_than_s), dry_run)

    def purge_requested(self, study: str, dry_run: bool) -> PurgedStudy | KeptStudy:
        """Remove a study that a person named, whatever its outcome; what was not sent of it never will be."""

        def reason(facts: StudyFacts) -> str | None:
            there = self._files(study) or self._is_indexed(study)
            return reason_to_keep_requested(facts) or (None if there else "nothing of it is on the disk")

        return self._purge(study, reason, dry_run)

    def _purge(
        self, study: str, reason_to_keep_it: Callable[[StudyFacts], str | None], dry_run: bool
    ) -> PurgedStudy | KeptStudy:
        try:
            with self._pool.connection() as connection:
                if not may_purge(connection):
                    return KeptStudy(study, _BACKUP)
                if unadopted.is_held(connection, study):
                    return KeptStudy(study, "the database lost it; it waits for `glionode adopt`")
                known = self._images(study)
                if reason := reason_to_keep_it(self._facts(connection, study)):
                    return KeptStudy(study, reason)
                outcome, taken = self._take(connection, study, known, dry_run)
        except Exception:
            self.finish_interrupted()  # the decision may or may not be recorded
            raise
        if taken is not None:
            self._remove_taken(taken)
        return outcome

    def finish_interrupted(self) -> None:
        """Finish the purges that were decided on and interrupted, and undo the undecided ones."""
        for taken in taken_studies(self._data_dir):
            try:
                self._finish(taken)
            except OSError as exc:  # the disk is full or failing; the next round tries again, and other studies go on
                _LOG.error(
                    "the purge of study %s was interrupted, and the disk does not let it be undone (%s); its images "
                    "are whole in the folder purging of storage.data_dir until it does",
                    *(taken.study, exc.strerror),
                )
        self._finish_of_earlier_version()

    def _finish(self, taken: TakenStudy) -> None:
        with self._pool.connection() as connection:
            _lock(connection, taken.study)  # wait for another purger that may be at work on it
            if not taken.folder.is_dir():
                return
            decided = _is_decided(connection, taken)
            if not decided:
                taken.put_back()
                _LOG.warning("the purge of study %s was interrupted; everything of it is back", taken.study)
        if decided:
            self._remove_taken(taken)
            _LOG.warning("the purge of study %s was interrupted; it is complete now", taken.study)

    def _finish_of_earlier_version(self) -> None:
        for place in (PURGING, "purged"):
            root = self._data_dir / place
            found = [root / each.name for each in os.scandir(root) if is_uid(each.name)] if root.is_dir() else []
            for folder in sorted(found):
                with self._pool.connection() as connection:
                    _lock(connection, folder.name)
                    if place == PURGING and folder.is_dir():
                        put_back(folder, self._data_dir / "archive" / folder.name)
                    shutil.rmtree(folder, ignore_errors=True)

    def _facts(self, connection: Connection, study: str) -> StudyFacts:
        """Read the facts and lock the study's rows, so that none of its jobs starts before the transaction ends."""
        _lock(connection, study)
        rows = connection.execute(
            # A job that was purged says nothing of images that came since, be they the same.
            "SELECT key, state, instances_sha256, superseded_by IS NOT NULL, extract(epoch FROM finished_at) "
            "FROM glionode_jobs WHERE study_instance_uid = %s AND purged_at IS NULL FOR UPDATE",
            (study,),
        ).fetchall()
        sent = connection.execute(
            "SELECT job_key, CASE WHEN ask_at IS NULL THEN state ELSE state || ', not committed' END, "
            "extract(epoch FROM coalesce(committed_at, sent_at)) FROM glionode_outbox WHERE job_key = ANY(%s)",
            ([row[0] for row in rows],),
        ).fetchall()
        jobs = [
            JobFacts(JobState(state), instances, superseded, frozenset(row[1] for row in sent if row[0] == key))
            for key, state, instances, superseded, _ in rows
        ]
        ends = [float(at) for *_, at in [*rows, *sent] if at is not None]
        inputs = read_inputs_by_index(connection, self._archive, study)
        instances = new_job(study, inputs.sop_instance_uids, "", replacements=inputs.replacements).instances_sha256
        there = inputs.paths or inputs.other_instances
        return StudyFacts(jobs, instances if there else None, max([self._last_received(study), *ends]))

    def _take(
        self, connection: Connection, study: str, known: tuple[Path, ...], dry_run: bool
    ) -> tuple[PurgedStudy | KeptStudy, TakenStudy | None]:
        """Take a study away whose images were `known` when the decision was made, and change its rows.

        What was taken is to be removed once the transaction has ended.
        """
        files = self._files(study)
        row = connection.execute(
            "SELECT count(*) FROM glionode_outbox JOIN glionode_jobs ON job_key = key WHERE study_instance_uid = %s "
            "AND NOT glionode_outbox.state = ANY(%s)",
            (study, [*DELIVERED, "withdrawn"]),
        ).fetchone()
        undelivered = int(row[0]) if row is not None else 0
        purged = PurgedStudy(study, len(files), sum(path.stat().st_size for path in files), undelivered)
        if dry_run:
            return purged, None
        taken = self._take_images(study, frozenset(known))
        if taken is None:
            return KeptStudy(study, "an image of it has just arrived"), None
        with suppress(FileNotFoundError):
            taken.take("results")
        taken.sync()
        _decide(connection, taken)
        instance_rows.delete_study(connection, study)
        connection.execute(
            "DELETE FROM glionode_outbox USING glionode_jobs WHERE job_key = key AND study_instance_uid = %s "
            "AND NOT glionode_outbox.state = ANY(%s)",
            (study, list(DELIVERED)),
        )
        connection.execute(
            "UPDATE glionode_outbox SET ask_at = NULL FROM glionode_jobs WHERE job_key = key "
            "AND study_instance_uid = %s",
            (study,),
        )
        connection.execute(
            "UPDATE glionode_jobs SET purged_at = now(), results_path = NULL WHERE study_instance_uid = %s", (study,)
        )
        dropped = f", {undelivered} deliveries that were never made" if undelivered else ""
        detail = f"{purged.files} files, {purged.freed_bytes} bytes{dropped}"
        audit_log.record(connection, AuditEvent.PURGED, AuditSubject(study), detail)
        return purged, taken

    def remove_images(self, study: str, known: frozenset[Path]) -> bool:
        """Remove a study's images if all of them are `known`, else leave them. Return whether they were removed.

        `known` are all files in the folders of its series: one that took the place of another has left that there.
        """
        taken = self._take_images(study, known)
        if taken is None:
            return False
        taken.sync()
        with self._pool.connection() as connection:
            _decide(connection, taken)
            instance_rows.delete_study(connection, study)
        self._remove_taken(taken)
        return True

    def _take_images(self, study: str, known: frozenset[Path]) -> TakenStudy | None:
        """Take the images of a study; None, and they are back, where one of them is not known."""
        folder, taken = self._data_dir / "archive" / study, new_taken_study(self._data_dir, study)
        taken.folder.mkdir(mode=0o700, parents=True)
        try:
            images = taken.take("archive")
        except FileNotFoundError:
            return taken  # it has none
        # All that was acknowledged until now is in it, and nothing is added to it any more.
        if {folder / path.relative_to(images) for path in images.glob("*/*")} - known:
            taken.put_back()
            return None
        return taken

    def _remove_taken(self, taken: TakenStudy) -> None:
        """Remove a study that was decided on, and the decision when nothing is left of it."""
        taken.remove()
        if not taken.folder.exists():
            with self._pool.connection() as connection:
                connection.execute("DELETE FROM glionode_purges WHERE name = %s", (taken.name,))

    def _images(self, study: str) -> tuple[Path, ...]:
        """Return the files in the folders of its series."""
        return tuple((self._data_dir / "archive" / study).glob("*/*"))

    def _is_indexed(self, study: str) -> bool:
        """Whether the index of the archive knows images of it, as of one whose files are lost."""
        with self._pool.connection() as connection:
            return bool(instance_rows.of_study(connection, study))

    def _last_received(self, study: str) -> float:
        return self._archive.last_received(study) or 0.0

    def _files(self, study: str) -> list[Path]:
        roots = (self._data_dir / "archive" / study, results_root(self._data_dir) / study)
        return [path for root in roots for path in root.rglob("*") if path.is_file()]


def _lock(connection: Connection, study: str) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (study,))  # the lock that JobQueue takes, too


def _decide(connection: Connection, taken: TakenStudy) -> None:
    """Record that what was taken is to be removed, from the end of the transaction on."""
    connection.execute("INSERT INTO glionode_purges (name) VALUES (%s)", (taken.name,))


def _is_decided(connection: Connection, taken: TakenStudy) -> bool:
    return connection.execute("SELECT 1 FROM glionode_purges WHERE name = %s", (taken.name,)).fetchone() is not None
