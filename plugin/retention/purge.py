"""Remove received images and results of finished studies from the disk. The rows of their jobs stay in the database.

    archive/<study>  ──>  purging/<study>  ──>  purged/<study>  ──>  removed

In `purging/` the study is checked a last time, because an image may have arrived meanwhile; after a crash it is put
back. What is in `purged/` is removed in any case.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from pipeline.atomic_write import make_folders, sync_folder
from plugin.archive.store import URGENT_MARK, EmbeddedArchive, is_uid, results_root
from plugin.archive.study_inputs import read_inputs
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.purge_lock import may_purge
from plugin.jobs.job import JobState, new_job
from plugin.retention.rules import DELIVERED, JobFacts, StudyFacts, reason_to_keep, reason_to_keep_requested

Connection = psycopg.Connection[Any]

_BACKUP = "a backup is being made"


@dataclass(frozen=True, slots=True)
class PurgedStudy:
    """A study that was removed, or would have been without `dry_run`."""

    study_instance_uid: str
    files: int
    freed_bytes: int


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
        if now - self._last_received(study) < older_than_s:  # saves a query
            return KeptStudy(study, "it is not old enough")
        with self._pool.connection() as connection:
            if not may_purge(connection):
                return KeptStudy(study, _BACKUP)
            known = self._images(study)
            reason = reason_to_keep(self._facts(connection, study), now, older_than_s)
            return KeptStudy(study, reason) if reason else self._remove(connection, study, known, dry_run)

    def purge_requested(self, study: str, dry_run: bool) -> PurgedStudy | KeptStudy:
        """Remove a study that a person named, whatever its outcome; what was not sent of it never will be."""
        with self._pool.connection() as connection:
            if not may_purge(connection):
                return KeptStudy(study, _BACKUP)
            known = self._images(study)
            reason = reason_to_keep_requested(self._facts(connection, study))
            if reason is None and not self._files(study):
                reason = "nothing of it is on the disk"
            return KeptStudy(study, reason) if reason else self._remove(connection, study, known, dry_run)

    def finish_interrupted(self) -> None:
        """Finish the purges that a crash interrupted."""
        for place in ("purging", "purged"):
            root = self._data_dir / place
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                with self._pool.connection() as connection:
                    _lock(connection, folder.name)  # wait for another purger that may be at work on it
                    if place == "purging" and folder.is_dir():
                        _put_back(folder, self._data_dir / "archive" / folder.name)
                    shutil.rmtree(folder, ignore_errors=True)

    def _facts(self, connection: Connection, study: str) -> StudyFacts:
        """Read the facts and lock the study's rows, so that none of its jobs starts before the transaction ends."""
        _lock(connection, study)
        rows = connection.execute(
            "SELECT key, state, instances_sha256, superseded_by IS NOT NULL, extract(epoch FROM finished_at) "
            "FROM glionode_jobs WHERE study_instance_uid = %s FOR UPDATE",
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
        inputs = read_inputs(self._archive, study)
        instances = new_job(study, inputs.sop_instance_uids, "", replacements=inputs.replacements).instances_sha256
        there = inputs.paths or inputs.other_instances
        return StudyFacts(jobs, instances if there else None, max([self._last_received(study), *ends]))

    def _remove(
        self, connection: Connection, study: str, known: tuple[Path, ...], dry_run: bool
    ) -> PurgedStudy | KeptStudy:
        """Remove a study whose images were `known` when the decision was made."""
        files = self._files(study)
        purged = PurgedStudy(study, len(files), sum(path.stat().st_size for path in files))
        if dry_run:
            return purged
        if not self.remove_images(study, frozenset(known)):
            return KeptStudy(study, "an image of it has just arrived")
        shutil.rmtree(results_root(self._data_dir) / study, ignore_errors=True)
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
        audit_log.record(
            connection, AuditEvent.PURGED, AuditSubject(study), f"{purged.files} files, {purged.freed_bytes} bytes"
        )
        return purged

    def remove_images(self, study: str, known: frozenset[Path]) -> bool:
        """Remove a study's images if all of them are `known`, else leave them. Return whether they were removed.

        `known` are all files in the folders of its series: one that took the place of another has left that there.
        """
        folder = self._data_dir / "archive" / study
        if not folder.is_dir():
            return True
        purging, purged = (self._data_dir / place / study for place in ("purging", "purged"))
        for place in (purging.parent, purged.parent):
            place.mkdir(mode=0o700, exist_ok=True)
        folder.rename(purging)  # all that was acknowledged until now is in it, and nothing is added to it any more
        if {folder / path.relative_to(purging) for path in purging.glob("*/*")} - known:
            _put_back(purging, folder)
            return False
        purging.rename(purged)
        shutil.rmtree(purged)
        return True

    def _images(self, study: str) -> tuple[Path, ...]:
        """Return the files in the folders of its series."""
        return tuple((self._data_dir / "archive" / study).glob("*/*"))

    def _last_received(self, study: str) -> float:
        return self._archive.last_received(study) or 0.0

    def _files(self, study: str) -> list[Path]:
        roots = (self._data_dir / "archive" / study, results_root(self._data_dir) / study)
        return [path for root in roots for path in root.rglob("*") if path.is_file()]


def _lock(connection: Connection, study: str) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (study,))  # the lock that JobQueue takes, too


def _put_back(taken: Path, folder: Path) -> None:
    """Move a study's images back, except those whose names have been taken by new ones meanwhile."""
    for path in sorted(taken.glob("*/*")):
        place = folder / path.relative_to(taken)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not place.exists():
            path.rename(place)
    for series in (each for each in folder.glob("*") if each.is_dir()):
        sync_folder(series)
        make_folders(series, within=folder.parent, mode=0o700)
    if (taken / URGENT_MARK).exists() and folder.is_dir():
        (folder / URGENT_MARK).touch(mode=0o600)
    shutil.rmtree(taken)
