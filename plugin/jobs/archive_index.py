"""Keep the index of the archive: a row in the database for each file that was received.

An instance is acknowledged once its file is on disk. Its row comes a moment later, in a batch, so that no sender waits
for the database and none is refused while that is down. What was not written when the process ended is found at its
next start: a study whose folders have other times than when it was last found complete is compared with its rows. An
archive from before there was an index is indexed in the same way while the node works.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Collection
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.archive.damage import sha256_hex
from plugin.archive.file_meta import read_sop_class_uid
from plugin.archive.replaced_files import replaced_files, replacing_files
from plugin.archive.store import EmbeddedArchive, FolderTimes, IndexedInstance, InstanceKey, StoredInstance, WrongUid
from plugin.archive.study_inputs import MR_IMAGE_CLASSES, StudyInputs, read_inputs
from plugin.database import instance_rows
from plugin.database.instance_rows import InstanceRow, StudyMarks
from plugin.database.pool import Connection, clear_trouble, record_trouble
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_FLUSH_EVERY_S = 0.5
_MOST_PENDING = 50_000
"""Instances without a row that are kept in memory, about 30 MB; beyond, their studies are compared later."""
_ANSWER_WITHIN_S = 1.0
"""For questions of the listener's threads: senders wait for them."""
_SILENT_S = 10.0
"""For so long no question is asked after one without an answer."""
_SETTLED_AFTER_S = 2.0
"""Folders that changed less than this ago may change once more within the resolution of their times."""
_PLACE = "archive"
"""The place of a trouble with files that are gone."""
_MAKE_WAY_S = 0.01
"""Between two studies of an old archive: the node works meanwhile."""


def mark(folders: FolderTimes, *more: object) -> str:
    """Return a short text that is another one for other folders or times."""
    return hashlib.sha256(repr((folders, more)).encode()).hexdigest()[:32]


def read_inputs_by_index(connection: Connection, archive: EmbeddedArchive, study: str) -> StudyInputs:
    """Return the MR images of a study as `read_inputs` does, without a look into its files where the index has them."""
    before = archive.folder_times(study)
    if instance_rows.read_mark(connection, study).indexed != mark(before):
        return read_inputs(archive, study)
    rows = instance_rows.of_study(connection, study).values()
    images = sorted(archive.path(row.key) for row in rows if row.sop_class_uid in MR_IMAGE_CLASSES)
    return StudyInputs(
        tuple(images),
        tuple(path.stem for path in images),
        len(rows) - len(images),
        replacements=archive.count_replacements(study),
    )


class ArchiveIndex:
    """Writes rows behind the acknowledgement of instances, and answers what was received. Thread-safe."""

    def __init__(self, archive: EmbeddedArchive, pool: ConnectionPool) -> None:
        self._archive = archive
        self._pool = pool
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[InstanceKey, tuple[StoredInstance, float]] = {}
        self._behind: set[str] = set()
        """Studies to compare with their rows."""
        self._complete = False
        self._asked_again_at = 0.0
        """When the database is asked for a digest again, in seconds of the monotonic clock."""
        self._gone: dict[str, int] = {}
        """How many files of a study are gone, where any is."""
        self._overflows = 0
        """How often an instance found no room among the pending ones."""
        self._outage = Outage(_LOG, "writing the index of the archive")

    def note(self, stored: StoredInstance) -> None:
        """Note an instance that was stored, or took another's place. Never waits for the database."""
        with self._lock:
            study = stored.key.study_instance_uid
            self._behind.add(study)
            if len(self._pending) < _MOST_PENDING or stored.key in self._pending:
                self._pending[stored.key] = (stored, time.time())
            else:
                self._complete = False  # until a catch-up that begins later has found it among the files
                self._overflows += 1

    def received_sha256(self, key: InstanceKey) -> str:
        """Return the digest of an instance's file as it was received; empty where the database cannot say."""
        with self._lock:
            if key in self._pending:
                return self._pending[key][0].sha256
        if time.monotonic() < self._asked_again_at:
            return ""
        try:
            with self._pool.connection(timeout=_ANSWER_WITHIN_S) as connection:
                return instance_rows.received_sha256(connection, key)
        except (psycopg.Error, PoolTimeout):
            self._asked_again_at = time.monotonic() + _SILENT_S
            return ""

    def find(self, sop_instance_uids: Collection[str]) -> list[IndexedInstance] | None:
        """Return the instances with these UIDs; None where only the files can say.

        That is while the index is completed after a start, and while the database does not answer.
        """
        if not self._complete:
            return None
        try:
            self.flush()
            with self._pool.connection() as connection:
                rows = instance_rows.find(connection, list(sop_instance_uids))
        except (psycopg.Error, PoolTimeout):
            return None
        return [IndexedInstance(row.key, row.sop_class_uid, row.size_bytes) for row in rows]

    def read_settled(self) -> dict[str, str]:
        """Return the marks of the studies that had their jobs. Raises psycopg.Error, PoolTimeout."""
        with self._pool.connection() as connection:
            return {study: each.settled for study, each in instance_rows.read_marks(connection).items()}

    def write_settled(self, study: str, folders: FolderTimes, urgent: bool) -> None:
        """Record that a study with these folders has its job. Raises psycopg.Error, PoolTimeout."""
        last = max((time_ns for _, time_ns in folders), default=0) / 1e9
        if time.time() - last >= _SETTLED_AFTER_S:
            with self._pool.connection() as connection:
                instance_rows.write_settled(connection, study, mark(folders, urgent))

    def run(self, stop: threading.Event) -> None:
        """Catch up with what an earlier process left, and write rows until `stop` is set and once more then."""
        while not stop.is_set():
            try:
                if not self._complete:
                    self._catch_up(stop)
                self.flush()
                self._compare_settled()
                self._outage.works()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the files are the truth
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
                stop.wait(2.0)
            stop.wait(_FLUSH_EVERY_S)
        try:
            self.flush()
        except (psycopg.Error, PoolTimeout):
            _LOG.info("the index of the archive is completed at the next start")

    def flush(self) -> None:
        """Write the rows of all instances that were noted before the call."""
        with self._writing:
            with self._lock:
                pending, self._pending = self._pending, {}
            try:
                rows = [row for stored, at in pending.values() if (row := self._row(stored, at)) is not None]
                if rows:
                    with self._pool.connection() as connection:
                        instance_rows.upsert(connection, rows)
            except BaseException:
                with self._lock:
                    self._pending = pending | self._pending
                raise

    def _row(self, stored: StoredInstance, received_at: float) -> InstanceRow | None:
        """Return the row of an instance; None where its file has been removed meanwhile."""
        try:
            sop_class_uid = read_sop_class_uid(self._archive.path(stored.key))
        except OSError:
            return None
        return InstanceRow(stored.key, sop_class_uid, stored.size_bytes, stored.sha256, received_at)

    def _catch_up(self, stop: threading.Event) -> None:
        """Compare the studies whose folders changed since they were last found complete with their rows."""
        with self._lock:
            overflows = self._overflows
        with self._pool.connection() as connection:
            marks = instance_rows.read_marks(connection)
            known = instance_rows.read_studies(connection) if not marks else marks.keys()
            clear_trouble(self._pool, _PLACE)
        studies = self._archive.studies()
        changed = [
            study
            for study in studies
            if marks.get(study, StudyMarks()).indexed != mark(self._archive.folder_times(study))
        ]
        is_first = not any(each.indexed for each in marks.values())
        if changed:
            _LOG.info("comparing %d of %d studies in the archive with the index", len(changed), len(studies))
        for study in changed:
            if stop.is_set():
                return
            self.flush()  # new instances do not wait for old ones
            self._compare(study, hashed=not is_first)
            stop.wait(_MAKE_WAY_S if is_first else 0)
        for study in sorted(known - set(studies)):
            self._compare(study, hashed=False)
        with self._lock:
            self._complete = self._overflows == overflows
        if changed:
            _LOG.info("the index of the archive is complete")

    def _compare_settled(self) -> None:
        """Compare the studies that got instances, once none comes for a moment."""
        with self._lock:
            behind = sorted(self._behind)
        for study in behind:
            folders = self._archive.folder_times(study)
            last = max((time_ns for _, time_ns in folders), default=0) / 1e9
            if abs(time.time() - last) < _SETTLED_AFTER_S:
                continue
            with self._lock:
                self._behind.discard(study)
            try:
                self._compare(study, hashed=True)
            except BaseException:
                with self._lock:
                    self._behind.add(study)
                raise

    def _compare(self, study: str, hashed: bool) -> None:
        """Add the missing rows of a study, and report the rows without a file; with `hashed`, read what has no row.

        Files of an archive that had no index are not read: nobody knows whether they are as they came.
        """
        folders, looked_at = self._archive.folder_times(study), time.time()
        with self._pool.connection() as connection:
            # As JobQueue and Purger do: nothing of it is removed meanwhile.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (study,))
            known = instance_rows.of_study(connection, study)
            with self._lock:
                noted = {key for key in self._pending if key.study_instance_uid == study}
            files = {key: path for path in self._archive.files(study) if (key := _key(path)) is not None}
            new = [read_row(key, path, hashed) for key, path in files.items() if key not in known and key not in noted]
            new += [read_row(key, files[key], hashed=True) for key in self._outdated(study, known) if key in files]
            instance_rows.upsert(connection, [row for row in new if row is not None])
            gone = known.keys() - files.keys()
            if gone and not files and _was_purged(connection, study):
                instance_rows.delete_study(connection, study)
                gone = set()
            last = max((time_ns for _, time_ns in folders), default=0) / 1e9
            # A study with images that are gone is compared at each start, so that they are not forgotten.
            if folders and not noted and not gone and looked_at - last >= _SETTLED_AFTER_S:
                instance_rows.write_indexed(connection, study, mark(folders))
        self._report_gone(study, len(gone))

    def _outdated(self, study: str, known: dict[InstanceKey, InstanceRow]) -> list[InstanceKey]:
        """Return the instances whose rows are those of files that others took the place of, before a crash."""
        found = []
        for path in replacing_files(self._archive.data_dir / "archive" / study):
            row = known.get(InstanceKey(study, path.parent.name, path.stem))
            if row is None or not row.sha256 or sha256_hex(path) == row.sha256:
                continue
            if row.sha256 in {sha256_hex(earlier) for earlier in replaced_files(path)}:
                found.append(row.key)
        return found

    def _report_gone(self, study: str, count: int) -> None:
        """Tell of the files that are gone, of all studies in one trouble; it ends when all of them came again."""
        if self._gone.get(study, 0) == count:
            return
        self._gone[study] = count
        if not count:
            del self._gone[study]
        if not self._gone:
            clear_trouble(self._pool, _PLACE)
            return
        study, count = next(iter(self._gone.items()))
        sentence = (
            f"{sum(self._gone.values())} images of {len(self._gone)} studies were received, and their files are gone "
            f"from the archive, though nothing of this node removed them: {count} of study {study}. Check the disk, "
            f"and send the study again; or give it up with `glionode purge {study}`."
        )
        _LOG.error("%s", sentence)
        record_trouble(self._pool, _PLACE, sentence)


def _key(path: Path) -> InstanceKey | None:
    try:
        return InstanceKey(path.parent.parent.name, path.parent.name, path.stem)
    except WrongUid:
        return None


def read_row(key: InstanceKey, path: Path, hashed: bool) -> InstanceRow | None:
    """Return the row of a file; None where it was removed meanwhile or cannot be read."""
    try:
        found = path.stat()
        sha256 = ""
        if hashed:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return InstanceRow(key, read_sop_class_uid(path), found.st_size, sha256, min(found.st_mtime, time.time()))
    except OSError:
        return None


def _was_purged(connection: Connection, study: str) -> bool:
    """Return whether a study without files was purged, by a version without an index."""
    rows = connection.execute(
        "SELECT bool_and(purged_at IS NOT NULL) FROM glionode_jobs WHERE study_instance_uid = %s", (study,)
    ).fetchone()
    return rows == (True,)
