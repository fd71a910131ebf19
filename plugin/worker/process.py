"""The worker: a process of its own that takes jobs from the queue, the model kept warm.

The process boundary is what keeps a crash, a leak or a stuck driver away from receiving. It imports no DICOM network.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection as PipeEnd

from procrastinate import App, PsycopgConnector

from models.package import IntendedUse
from plugin.database.pool import Database, clear_trouble, connected, note_trouble
from plugin.jobs.queue import HEARTBEAT_S, QUEUE, STALLED_AFTER_S, TASK, JobQueue
from plugin.logs import set_up_logging
from plugin.settings.sections import Settings
from plugin.sources.open import open_source
from plugin.worker.job_runner import JobRunner, SegmentFactory, Trouble, describe
from plugin.worker.progress_pipe import ProgressWriter

_PLACE = "worker"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def run_worker(
    settings: Settings,
    url: str,
    embedded: bool,
    intended_use: IntendedUse,
    make_segment: SegmentFactory,
    log_level: int,
    pipe: PipeEnd,
) -> None:
    """The worker process's whole life: until SIGTERM, which lets a running job end, or until `serve` is gone."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for `serve`, which ends us in its own time
    set_up_logging(log_level, settings.logging.format)
    with connected(url) as pool:
        database = Database(url, pool, embedded)
        try:
            segment = make_segment()
        except Exception as exc:
            note_trouble(pool, _PLACE, f"The model does not load. {describe(exc)}")
            raise SystemExit(3) from exc
        clear_trouble(pool, _PLACE)
        trouble = Trouble(pool, f"{_PLACE} on {socket.gethostname()}")
        supply = open_source(settings)
        work = JobRunner(settings, supply, JobQueue(database), trouble, intended_use, segment, ProgressWriter(pipe))
        app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4))
        app.task(name=TASK, queue=QUEUE)(work.do)
        app.run_worker(
            queues=[QUEUE],
            name="segment",
            concurrency=1,
            fetch_job_polling_interval=2.0,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_AFTER_S,
            delete_jobs="always",  # our own rows are the record
        )
        supply.close()


def _end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, however that comes about. Linux only."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and parent.pid != os.getppid():  # it ended before the kernel was told
        raise SystemExit(1)
