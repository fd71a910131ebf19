"""The parts that a node's processes are put together from: each starts as a block begins and ends with it."""

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from pynetdicom import evt

from pipeline.errors import SettingsWrong
from plugin.archive.store import EmbeddedArchive, results_root
from plugin.commitment.provider import CommitmentProvider
from plugin.commitment.report_receiver import CommitmentReportReceiver
from plugin.commitment.requester import CommitmentRequester
from plugin.context import Drain, NodeContext
from plugin.database.audit_log import Peer
from plugin.delivery.deliverer import Deliverer
from plugin.delivery.result_source import ResultSource, open_result_source
from plugin.dimse.association import EventHandler
from plugin.http.result_upload import remove_torn_uploads
from plugin.jobs.reconcile import Reconciler
from plugin.listener.listener import Listener, start_listener
from plugin.listener.reception_audit import ReceptionAudit
from plugin.node.lock import node_lock
from plugin.orthanc.marks import OrthancMarks
from plugin.retention.loop import Retention
from plugin.retention.purge import Purger
from plugin.settings.check import may_receive
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost

_LOG = logging.getLogger(__name__)

Loop = Callable[[threading.Event], None]
"""Runs in a thread of its own until the event is set."""


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
def receiving(shared: NodeContext, archive: EmbeddedArchive, plugin: "PluginHost | None" = None) -> Iterator[Listener]:
    """The listener, what makes jobs of the studies that it receives, and what removes them in the end."""
    settings = shared.settings
    reconciler = Reconciler(archive, shared.queue, settings.study, shared.model.weights_sha256)
    receptions = ReceptionAudit(shared.database.pool)
    loops: list[Loop] = [reconciler.run, receptions.run]
    if settings.storage.keep_days or settings.storage.purge_below_mb:
        purger = Purger(settings.data_dir, shared.database.pool)
        loops.append(Retention(purger, settings.storage, lambda: shutil.disk_usage(settings.data_dir).free).run)

    if settings.orthanc.url:
        loops.append(OrthancMarks(shared.database.pool, settings.orthanc).run)
    reports = CommitmentReportReceiver(shared.database.url, settings.delivery)
    commitment = CommitmentProvider(settings, archive)
    commitment_handlers = [
        *commitment.handlers,
        EventHandler(evt.EVT_N_EVENT_REPORT, reports.on_event_report),
    ]
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
def working(shared: NodeContext, make_segment: SegmentFactory) -> Iterator[WorkerSupervisor]:
    """A worker process and its keeper, whose `check` is to be called again and again by the thread that begins this."""
    keeper = WorkerSupervisor(
        shared.settings, shared.database, shared.queue, shared.model.intended_use, make_segment, shared.meters
    )
    try:
        keeper.check()
        yield keeper
    finally:
        keeper.stop(shared.drain.left_s())


@contextmanager
def delivering(shared: NodeContext) -> Iterator[None]:
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
                loops.append(CommitmentRequester(shared.database.url, destination, calling, delivery).run)
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
