"""Notice at the start that the database is not the one that this data folder was used with, or an older state of it.

    <data folder>/database.json    the id of the database, and how many audit entries it had when it was last looked at

The entries of the audit are numbered and never removed. A database with fewer of them than the file says was restored
from a backup, or lost what a standby server had not got. The file belongs to no backup of the database: without it, the
results on the disk are compared with the database.
"""

import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg_pool import ConnectionPool

from pipeline.atomic_write import write_file
from plugin.archive.found_results import FoundResult, find_results, studies_with_results
from plugin.archive.store import EmbeddedArchive
from plugin.database.pool import Connection, database_id
from plugin.jobs import unadopted
from plugin.jobs.job import OPEN, JobState
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_FILE = "database.json"
_MARK_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class DatabaseMark:
    """What tells one database, and one state of it, from another."""

    database: str
    audit_entries: int
    """The number of the newest entry of the audit."""


def hold_unknown_studies(data_dir: Path, pool: ConnectionPool) -> int:
    """Let the studies wait for `glionode adopt` that are on the disk and that the database has lost.

    After the loss of a database, these are all studies with images or results; where it is an older state, those with
    results that it does not know, because what has no result yet is only to be computed. Return how many wait.
    """
    known, found = read_mark(data_dir), _mark_of(pool)
    with pool.connection() as connection:
        empty = connection.execute("SELECT 1 FROM glionode_jobs LIMIT 1").fetchone() is None
        lost = empty and bool(studies_with_results(data_dir))
        replaced = lost if known is None else known.database != found.database
        if replaced or known is None or known.audit_entries > found.audit_entries:
            unadopted.hold(connection, _unknown_studies(connection, data_dir, images_too=replaced))
        waiting = unadopted.count_held(connection)
    # Last, so that a crash before this repeats the comparison.
    write_mark(data_dir, found)
    if waiting:
        _LOG.warning(
            "the database does not know %d studies of which images or results are in %s: it was lost, replaced or "
            "restored from a backup. New studies are taken; of these nothing is computed or sent until "
            "`glionode adopt --dry-run` has been read and `glionode adopt --deliver all|none|DEST` was run",
            *(waiting, data_dir),
        )
    return waiting


def keep_mark(data_dir: Path, pool: ConnectionPool, stop: threading.Event) -> None:
    """Write the mark anew every few seconds until `stop` is set, where it changed. Errors are logged once."""
    written = read_mark(data_dir)
    outage = Outage(_LOG, f"noting the state of the database in {data_dir / _FILE}")
    while not stop.wait(_MARK_EVERY_S):
        try:
            if (found := _mark_of(pool)) != written:
                write_mark(data_dir, found)
                written = found
            outage.works()
        except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next round tries again
            outage.failed(f"it failed ({type(exc).__name__})")


def read_mark(data_dir: Path) -> DatabaseMark | None:
    """Return the mark in a data folder; None where there is none that can be read."""
    try:
        document = json.loads((data_dir / _FILE).read_text(encoding="utf-8"))
        return DatabaseMark(str(document["database"]), int(document["audit_entries"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_mark(data_dir: Path, mark: DatabaseMark) -> None:
    """Write the mark of a data folder, durably when this returns."""
    write_file(data_dir / _FILE, json.dumps(asdict(mark)))


def _mark_of(pool: ConnectionPool) -> DatabaseMark:
    with pool.connection() as connection:
        row = connection.execute("SELECT coalesce(max(id), 0) FROM glionode_audit").fetchone()
    return DatabaseMark(database_id(pool), int(row[0]) if row else 0)


def _unknown_studies(connection: Connection, data_dir: Path, images_too: bool) -> Iterable[str]:
    """Return the studies with results that the database does not know; `images_too`: also those with images alone."""
    images = EmbeddedArchive(data_dir / "archive", minimum_free_bytes=0).studies() if images_too else ()
    for study in sorted({*images, *studies_with_results(data_dir)}):
        rows = connection.execute(
            "SELECT key, state, analysis_started_at FROM glionode_jobs WHERE study_instance_uid = %s", (study,)
        ).fetchall()
        jobs = {key: (JobState(state), started) for key, state, started in rows}
        without_job = not jobs and study in images
        if without_job or any(_is_unknown(result, jobs) for result in find_results(data_dir, study)):
            yield study


def _is_unknown(result: FoundResult, jobs: dict[str, tuple[JobState, object]]) -> bool:
    """Return whether no job has made a result, as far as the rows of the study's jobs tell.

    An open job that began when the result says is tried again: a crash came between the result and its row.
    """
    of = result.report.job
    if of is None:  # made by an older version
        return not jobs
    if of.key not in jobs:
        return True
    state, started = jobs[of.key]
    return state in OPEN and started != of.started_at
