"""At the start of a node, check the results that are to be delivered, so that a lost one is made again at once.

A destination that is away would otherwise find out long after, when the images may be gone.
"""

import logging
import threading
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.archive.report_reader import REPORT_FILE, read_report
from plugin.delivery.result_source import root_of_result
from plugin.http.transfer import sha256_of
from plugin.jobs.queue import JobQueue

_LOG = logging.getLogger(__name__)
_RETRY_S = 2.0

_AWAITED = """
SELECT j.key, j.results_path, array_agg(o.path), array_agg(o.sha256)
FROM glionode_jobs j LEFT JOIN glionode_outbox o
    ON o.job_key = j.key AND starts_with(o.path, j.results_path || '/') AND o.state IN ('queued', 'failed', 'held')
WHERE j.has_result AND j.results_path IS NOT NULL AND j.purged_at IS NULL AND NOT j.result_lost
    AND (o.path IS NOT NULL OR NOT EXISTS (SELECT 1 FROM glionode_outbox any_o WHERE any_o.job_key = j.key))
    AND j.finished_at > (SELECT max(finished_at) FROM glionode_jobs) - interval '1 hour'
GROUP BY j.key ORDER BY j.finished_at DESC
"""
"""Results that no destination has yet, or that have none, of the last hour in which the node worked: what a disk has
kept for longer, a power cut does not take. The deliverer checks the others before it sends them."""


class ResultCheck:
    """Checks the results once, in a thread of its own, on the host that has them."""

    def __init__(self, pool: ConnectionPool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    def run(self, stop: threading.Event) -> None:
        """Check each result and have the jobs of lost ones run again; start anew where the database does not answer."""
        while not stop.is_set():
            try:
                self._check(stop)
                return
            except (psycopg.Error, PoolTimeout, OSError) as exc:
                _LOG.warning("the results could not be checked (%s); trying again", type(exc).__name__)
                stop.wait(_RETRY_S)

    def _check(self, stop: threading.Event) -> None:
        with self._pool.connection() as connection:
            rows = connection.execute(_AWAITED).fetchall()
        for key, folder, paths, digests in rows:
            if stop.is_set():
                return
            if not root_of_result(Path(folder, REPORT_FILE)).is_dir():
                continue
            files = {Path(path): digest for path, digest in zip(paths, digests, strict=True) if path}
            lost = find_lost(Path(folder), files)
            if lost is not None:
                path, what = lost
                if (why := self._queue.put_back(key, path, f"the file {path} {what}")) is not None:
                    _LOG.error("job %s: the file %s %s; %s", key, path, what, why)


def find_lost(folder: Path, files: dict[Path, str]) -> tuple[Path, str] | None:
    """Return the first file of a result that is missing or damaged, and what it is; None where all are whole.

    `files` are digests in hexadecimal, empty where they are not known. Raises OSError for a disk that fails.
    """
    report = read_report(folder)
    if not report.study_instance_uid:
        return folder / REPORT_FILE, "is missing or damaged"
    named = {folder / each.file: "" for each in report.written}
    for path, digest in (named | files).items():
        try:
            if not path.stat().st_size or (digest and sha256_of(path).hex() != digest):
                return path, "is damaged"
        except (FileNotFoundError, NotADirectoryError):
            return path, "is missing"
    return None
