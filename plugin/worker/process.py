"""The worker process: it loads the model once and runs jobs from the queue.

It is a process of its own so that a crash, a memory leak or a stuck driver does not affect receiving.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection as PipeEnd

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ProcrastinateException
from psycopg_pool import ConnectionPool

from models.package import IntendedUse
from plugin.database.pool import RECONNECT_S, Database, clear_trouble, open_pool, record_trouble
from plugin.errors import DatabaseUnavailable, describe_failure
from plugin.jobs.procrastinate_queue import HEARTBEAT_S, QUEUE, STALLED_AFTER_S, TASK
from plugin.jobs.queue import JobQueue
from plugin.logs import keeping_last_lines, set_up_logging
from plugin.settings.sections import Settings
from plugin.sources.open import open_source
from plugin.worker.job_runner import JobRunner, SegmentFactory, WorkerTrouble
from plugin.worker.progress_pipe import ProgressWriter

_PLACE = "worker"
DATABASE_LOST = 4
"""The exit code of a worker whose database does not answer; that is no fault of the worker or its job."""
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker process is started with. Picklable."""

    settings: Settings
    database_url: str
    embedded: bool
    """Whether the database is the embedded one."""
    intended_use: IntendedUse
    make_segment: SegmentFactory
    log_level: int


def run_worker(options: WorkerOptions, pipe: PipeEnd) -> None:
    """Run jobs until SIGTERM, which lets the running job finish, or until the parent process is gone."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops this process in its own time
    settings, url = options.settings, options.database_url
    set_up_logging(options.log_level, settings.logging.format)
    try:
        with keeping_last_lines(settings.data_dir, "worker"), open_pool(url) as pool:
            _run_jobs(options, pool, ProgressWriter(pipe))
    except (psycopg.Error, ProcrastinateException, DatabaseUnavailable) as exc:
        raise SystemExit(DATABASE_LOST) from exc


def _run_jobs(options: WorkerOptions, pool: ConnectionPool, progress: ProgressWriter) -> None:
    settings, url = options.settings, options.database_url
    try:
        segment = options.make_segment()
    except Exception as exc:
        record_trouble(pool, _PLACE, f"The model does not load. {describe_failure(exc)}")
        raise SystemExit(3) from exc
    clear_trouble(pool, _PLACE)
    progress.start_signs_of_life()
    source = open_source(settings)
    runner = JobRunner(
        settings=settings,
        source=source,
        queue=JobQueue(Database(url, pool, options.embedded)),
        trouble=WorkerTrouble(pool, f"{_PLACE} on {socket.gethostname()}"),
        intended_use=options.intended_use,
        segment=segment,
        progress=progress,
    )
    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4, reconnect_timeout=RECONNECT_S))
    app.task(name=TASK, queue=QUEUE)(runner.run)
    app.run_worker(
        queues=[QUEUE],
        name="segment",
        concurrency=1,
        fetch_job_polling_interval=2.0,
        update_heartbeat_interval=HEARTBEAT_S,
        stalled_worker_timeout=STALLED_AFTER_S,
        delete_jobs="always",  # our own rows are the record
    )
    source.close()


def _end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends. Linux only."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and parent.pid != os.getppid():  # it ended before prctl took effect
        raise SystemExit(1)
