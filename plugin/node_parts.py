"""The parts that a node's processes are put together from: each starts as a block begins and ends with it."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from pynetdicom import evt

from models.package import ModelPackage
from pipeline.errors import SettingsWrong
from plugin.archive.archive import EmbeddedArchive, results_root
from plugin.archive.purge import Purger
from plugin.archive.retention import Retention
from plugin.audit import Peer
from plugin.commitment.commitment_asker import CommitmentAsker
from plugin.commitment.commitment_reports import CommitmentReports
from plugin.commitment.commitment_service import CommitmentService
from plugin.database import Database
from plugin.delivery.delivery import Deliverer
from plugin.delivery.result_source import ResultSource, open_result_source
from plugin.destination_settings import DestinationSettings
from plugin.jobs.job_queue import JobQueue
from plugin.jobs.reconcile import Reconciler
from plugin.listener.listener import Listener, start_listener
from plugin.listener.receptions import Receptions
from plugin.node_lock import node_lock
from plugin.orthanc_marks import OrthancMarks
from plugin.settings import Settings
from plugin.settings_check import may_receive
from plugin.web.meters import Meters
from plugin.web.result_intake import remove_torn_uploads
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.worker_keeper import WorkerKeeper

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost

_LOG = logging.getLogger(__name__)

Loop = Callable[[threading.Event], None]
"""Runs in a thread of its own until the event is set."""


class Drain:
    """The time that everything which ends has together, counted from the first that asks for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def left_s(self) -> float:
        """Seconds that are left, 0 at least."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        return max(0.0, self._deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class Shared:
    """What the parts of a process have in common."""

    settings: Settings
    model: ModelPackage
    database: Database
    queue: JobQueue
    drain: Drain
    meters: Meters


@contextmanager
def own_archive(settings: Settings) -> Iterator[EmbeddedArchive]:
    """The archive, for the one process that receives into it. Raises SettingsWrong where another one does."""
    with node_lock(settings.data_dir):
        results = results_root(settings.data_dir)
        results.mkdir(mode=0o700, exist_ok=True)
        results.chmod(0o700)
        archive = EmbeddedArchive(settings.data_dir / "archive", settings.storage.minimum_free_mb << 20)
        remove_torn_uploads(settings.data_dir)
        leftovers = archive.open()
        if leftovers:
            _LOG.info("removed %d files that were never acknowledged", leftovers)
        yield archive


@contextmanager
def receiving(shared: Shared, archive: EmbeddedArchive, plugin: "PluginHost | None" = None) -> Iterator[Listener]:
    """The listener, what makes jobs of the studies that it receives, and what removes them in the end."""
    settings = shared.settings
    reconciler = Reconciler(archive, shared.queue, settings.study, shared.model.weights_sha256)
    receptions = Receptions(shared.database.pool)
    loops: list[Loop] = [reconciler.run, receptions.run]
    if settings.storage.keep_days or settings.storage.purge_below_mb:
        purger = Purger(settings.data_dir, shared.database.pool)
        loops.append(Retention(purger, settings.storage, lambda: shutil.disk_usage(settings.data_dir).free).run)

    if settings.orthanc.url:
        loops.append(OrthancMarks(shared.database.pool, settings.orthanc).run)
    reports = CommitmentReports(shared.database.url, settings.delivery)
    commitment = CommitmentService(settings, archive)
    commitment_handlers = [*commitment.handlers, (evt.EVT_N_EVENT_REPORT, reports.handle)]
    loops.append(commitment.run)

    def on_kept(study: str, sender: Peer) -> None:
        reconciler.touch(study)
        receptions.count(study, sender)

    def on_stored(study: str, sender: Peer) -> None:
        on_kept(study, sender)
        if plugin is not None:
            plugin.touch(study, sender)

    if plugin is not None:
        plugin.on_kept(on_kept)
    with ExitStack() as stack:
        stack.enter_context(_threads(loops, shared.drain))
        try:
            listener = start_listener(
                settings.listener, archive, on_stored, shared.meters.answered, commitment_handlers
            )
        except OSError as exc:
            where = f"{settings.listener.host}:{settings.listener.port}"
            raise SettingsWrong(
                f"listener: nothing can listen on {where} ({exc.strerror}). Choose another listener.port, 0 for a free "
                "one."
            ) from exc
        stack.callback(lambda: listener.stop(shared.drain.left_s()))
        yield listener


@contextmanager
def working(shared: Shared, make_segment: SegmentFactory) -> Iterator[WorkerKeeper]:
    """A worker process and its keeper, whose `check` is to be called again and again by the thread that begins this."""
    keeper = WorkerKeeper(
        shared.settings, shared.database, shared.queue, shared.model.intended_use, make_segment, shared.meters
    )
    try:
        keeper.check()
        yield keeper
    finally:
        keeper.stop(shared.drain.left_s())


@contextmanager
def delivering(shared: Shared) -> Iterator[None]:
    """What sends results to the destinations that may have them."""
    settings = shared.settings
    calling, delivery = settings.listener.ae_title, settings.delivery
    loops: list[Loop] = []
    sources: list[ResultSource] = []
    for destination in settings.destinations:
        if may_receive(destination, shared.model.intended_use):
            sources.append(open_result_source(settings))
            sender = Deliverer(shared.database.url, destination, calling, delivery, sources[-1], settings.orthanc)
            loops.append(sender.run)
            if isinstance(destination, DestinationSettings) and destination.storage_commitment:
                loops.append(CommitmentAsker(shared.database.url, destination, calling, delivery).run)
    try:
        with _threads(loops, shared.drain):
            yield
    finally:
        for source in sources:
            source.close()


@contextmanager
def _threads(loops: list[Loop], drain: Drain) -> Iterator[None]:
    """Run loops in threads of their own, and end them together."""
    stop = threading.Event()
    threads = [threading.Thread(target=loop, args=(stop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(drain.left_s())


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT while the block runs; only the main thread can have that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
