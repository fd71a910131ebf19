"""The services of a node process. Each is a context manager: it starts a service and stops it when the block ends."""

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from pynetdicom import evt

from pipeline.atomic_write import make_folders
from pipeline.errors import SettingsWrong
from plugin.archive.restore_mark import refuse_half_restored
from plugin.archive.store import EmbeddedArchive, results_root
from plugin.commitment.provider import CommitmentProvider
from plugin.commitment.report_receiver import CommitmentReportReceiver
from plugin.commitment.requester import CommitmentRequester
from plugin.context import NodeContext, ShutdownDeadline
from plugin.database.audit_log import AuditEvent, Peer
from plugin.database.pool import clear_trouble, record_trouble
from plugin.delivery.deliverer import Deliverer
from plugin.delivery.result_check import ResultCheck
from plugin.delivery.result_source import ResultSource, open_result_source
from plugin.dimse.association import EventHandler
from plugin.http.result_upload import remove_interrupted_uploads
from plugin.jobs.archive_index import ArchiveIndex
from plugin.jobs.reconcile import Reconciler
from plugin.listener.c_store_handler import StoreEvents
from plugin.listener.listener import Listener, start_listener
from plugin.listener.reception_audit import ReceptionAudit
from plugin.node.database_mark import keep_mark
from plugin.node.lock import node_lock
from plugin.orthanc.outcome_marker import OutcomeMarker
from plugin.retention.loop import Retention
from plugin.retention.purge import Purger
from plugin.settings.check import may_receive
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from plugin.sources.awaited_series import awaited_series
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost

_LOG = logging.getLogger(__name__)

_CLOCK = "clock"
"""The place of a trouble with times."""

Loop = Callable[[threading.Event], None]
"""Runs in its own thread until the event is set."""


@contextmanager
def open_archive(settings: Settings) -> Iterator[EmbeddedArchive]:
    """Open the archive for the one process that receives into it. Raises SettingsWrong if another process does."""
    refuse_half_restored(settings.data_dir)
    with node_lock(settings.data_dir):
        results = results_root(settings.data_dir)
        make_folders(results, within=settings.data_dir, mode=0o700)
        results.chmod(0o700)
        archive = EmbeddedArchive(settings.data_dir / "archive", settings.storage.minimum_free_mb << 20)
        remove_interrupted_uploads(settings.data_dir)
        leftovers = archive.open()
        if leftovers:
            _LOG.info("removed %d incomplete files of C-STORE requests that were never acknowledged", leftovers)
        yield archive


@contextmanager
def recording_access(context: NodeContext) -> Iterator[None]:
    """Write to the audit log who was refused and who used the HTTP server."""
    with _running([context.access.run], context.shutdown_deadline):
        yield


@contextmanager
def receiving(context: NodeContext, archive: EmbeddedArchive, plugin: "PluginHost | None" = None) -> Iterator[Listener]:
    """Receive studies, make jobs of them, answer storage commitment requests, and purge old studies."""
    settings = context.settings
    pool = context.database.pool
    clear_trouble(pool, _CLOCK)
    index = archive.index = ArchiveIndex(archive, pool)
    reconciler = Reconciler(
        archive,
        context.queue,
        settings.study,
        context.model.sha256,
        lambda sentence: record_trouble(pool, _CLOCK, sentence),
        index,
        awaited_series(settings, context.model),
    )
    receptions = ReceptionAudit(context.database.pool)
    purger = Purger(settings.data_dir, pool)
    purger.finish_interrupted()  # before anything looks for the study's images or takes new ones
    retention = Retention(purger, settings.storage, lambda: shutil.disk_usage(settings.data_dir).free)
    loops: list[Loop] = [index.run, reconciler.run, receptions.run, retention.run, ResultCheck(pool, context.queue).run]
    if settings.orthanc.url:
        loops.append(OutcomeMarker(context.database.pool, settings.orthanc).run)
    reports = CommitmentReportReceiver(context.database.url, settings.delivery)
    commitment = CommitmentProvider(settings, archive)
    commitment_handlers = [
        *commitment.handlers,
        EventHandler(evt.EVT_N_EVENT_REPORT, reports.on_event_report),
    ]
    loops.append(commitment.run)
    loops.append(lambda stop: keep_mark(settings.data_dir, context.database.pool, stop))

    def note_instance(study: str, sender: Peer) -> None:
        reconciler.touch(study)
        receptions.count(study, sender)

    def on_stored(study: str, sender: Peer) -> None:
        note_instance(study, sender)
        if plugin is not None:
            plugin.touch(study, sender)

    if plugin is not None:
        plugin.on_stored(note_instance)
    with ExitStack() as stack:
        stack.enter_context(_running(loops, context.shutdown_deadline))
        try:
            on_refused = partial(context.access.note, AuditEvent.REFUSED)
            events = StoreEvents(on_stored, context.metrics.count_c_store, receptions.count_repeat, on_refused)
            listener = start_listener(settings.listener, archive, events, commitment_handlers)
        except OSError as exc:
            where = f"{settings.listener.host}:{settings.listener.port}"
            raise SettingsWrong(
                f"listener: the node cannot listen on {where} ({exc.strerror}). Choose another listener.port, or 0 for "
                "any free port."
            ) from exc
        stack.callback(lambda: listener.stop(context.shutdown_deadline.left_s()))
        yield listener


@contextmanager
def working(context: NodeContext, make_segment: SegmentFactory) -> Iterator[WorkerSupervisor]:
    """Run a worker process. The thread that enters the block must call the supervisor's `check` regularly."""
    supervisor = WorkerSupervisor(context, make_segment)
    try:
        supervisor.check()
        yield supervisor
    finally:
        supervisor.stop(context.shutdown_deadline.left_s())


@contextmanager
def delivering(context: NodeContext) -> Iterator[None]:
    """Send results to all destinations that may receive them."""
    settings = context.settings
    calling, delivery = settings.listener.ae_title, settings.delivery
    loops: list[Loop] = []
    sources: list[ResultSource] = []
    for destination in settings.destinations:
        if may_receive(destination, context.model.intended_use):
            sources.append(open_result_source(settings))
            sender = Deliverer(
                *(context.database.url, destination, calling, delivery, sources[-1], settings.orthanc),
                put_back=context.queue.put_back,
            )
            loops.append(sender.run)
            if isinstance(destination, DestinationSettings) and destination.storage_commitment:
                loops.append(CommitmentRequester(context.database.url, destination, calling, delivery).run)
    try:
        with _running(loops, context.shutdown_deadline):
            yield
    finally:
        for source in sources:
            source.close()


@contextmanager
def _running(loops: list[Loop], deadline: ShutdownDeadline) -> Iterator[None]:
    """Run each loop in its own thread and stop all of them together."""
    stop = threading.Event()
    threads = [threading.Thread(target=loop, args=(stop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(deadline.left_s())


@contextmanager
def stopped_by_signals(stop: threading.Event, deadline: ShutdownDeadline) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT while the block runs, and begin the deadline. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        deadline.left_s()
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
