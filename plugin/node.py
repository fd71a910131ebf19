"""The node: database, listener, reconciler, worker and deliverers, started in order and ended in the reverse one."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import psycopg

from models.package import ModelPackage, PackageBroken, find_package
from pipeline.errors import GlionodeError, ModelUnusable, SettingsWrong
from plugin.archive import EmbeddedArchive, results_root
from plugin.audit import Peer
from plugin.c_store import OnStored
from plugin.database import Database, running_database
from plugin.delivery import Deliverer
from plugin.job_queue import STALLED_AFTER_S, JobQueue
from plugin.listener import Address, Listener, start_listener
from plugin.node_lock import RunningNode, announce, node_lock
from plugin.purge import Purger
from plugin.receptions import Receptions
from plugin.reconcile import Reconciler
from plugin.retention import Retention
from plugin.settings import Settings
from plugin.settings_check import Severity, check_settings, may_receive
from plugin.worker_keeper import WorkerKeeper
from plugin.worker_process import SegmentFactory

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_SWEEP_EVERY_S = 5.0

OnReady = Callable[[Address], None]
"""Called once, when the node listens."""


def serve(
    settings: Settings,
    make_segment: SegmentFactory,
    stop: threading.Event | None = None,
    on_ready: OnReady | None = None,
) -> None:
    """Run a node until `stop` is set or, on the main thread, SIGTERM or SIGINT comes.

    It drains for `shutdown.drain_s` and ends soon after. A kill -9 ends worker and database too. Raises SettingsWrong,
    ModelUnusable and DatabaseUnavailable before anything listens.
    """
    stop = stop or threading.Event()
    for finding in check_settings(settings, None):
        if finding.severity is Severity.ERROR:
            raise SettingsWrong(f"{finding.key}: {finding.text}")
    model = _model(settings)
    archive = EmbeddedArchive(settings.data_dir / "archive", settings.storage.minimum_free_mb << 20)
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_signals(stop))
        stack.enter_context(node_lock(settings.data_dir))
        _make_closed(results_root(settings.data_dir))
        leftovers = archive.open()
        if leftovers:
            _LOG.info("removed %d files that were never acknowledged", leftovers)
        database = stack.enter_context(running_database(settings))
        queue = JobQueue(database)
        queue.take_over(0.0 if database.embedded else STALLED_AFTER_S)
        drain = _Drain(settings.shutdown.drain_s)
        keeper = WorkerKeeper(settings, database, queue, model.intended_use, make_segment)
        stack.callback(lambda: keeper.stop(drain.left_s()))
        keeper.check()
        reconciler = Reconciler(archive, queue, settings.study, model.weights_sha256)
        receptions = Receptions(database.pool)
        stack.enter_context(_threads([*_loops(settings, model, database, reconciler), receptions.run], drain))

        def on_stored(study: str, sender: Peer) -> None:
            reconciler.touch(study)
            receptions.count(study, sender)

        listener = _listen(settings, archive, on_stored)
        stack.callback(lambda: listener.stop(drain.left_s()))
        address = listener.address
        announce(settings.data_dir, RunningNode(os.getpid(), address.ae_title, address.host, address.port, time.time()))
        _LOG.info("listening as %s on %s:%d", address.ae_title, address.host, address.port)
        if on_ready is not None:
            on_ready(address)
        _watch(database, queue, keeper, stop)
        _LOG.info("stopping")
        keeper.ask_to_end()
    _LOG.info("stopped")


def _make_closed(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def _model(settings: Settings) -> ModelPackage:
    try:
        return find_package(settings.model.name, settings.installed_models_dir)
    except PackageBroken as exc:
        raise ModelUnusable(str(exc)) from exc


def _loops(
    settings: Settings, model: ModelPackage, database: Database, reconciler: Reconciler
) -> list[Callable[[threading.Event], None]]:
    loops: list[Callable[[threading.Event], None]] = [reconciler.run]
    if settings.storage.keep_days or settings.storage.purge_below_mb:
        purger = Purger(settings.data_dir, database.pool)
        loops.append(Retention(purger, settings.storage, lambda: shutil.disk_usage(settings.data_dir).free).run)
    for destination in settings.destinations:
        if may_receive(destination, model.intended_use):
            calling = settings.listener.ae_title
            loops.append(Deliverer(database.url, destination, calling, settings.delivery).run)
    return loops


class _Drain:
    """The time that everything which ends has together, counted from the first that asks for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def left_s(self) -> float:
        """Seconds that are left, 0 at least."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        return max(0.0, self._deadline - time.monotonic())


def _listen(settings: Settings, archive: EmbeddedArchive, on_stored: OnStored) -> Listener:
    try:
        return start_listener(settings.listener, archive, on_stored)
    except OSError as exc:
        where = f"{settings.listener.host}:{settings.listener.port}"
        raise SettingsWrong(
            f"listener: nothing can listen on {where} ({exc.strerror}). Choose another listener.port, 0 for a free one."
        ) from exc


def _watch(database: Database, queue: JobQueue, keeper: WorkerKeeper, stop: threading.Event) -> None:
    """Keep the worker alive and its jobs moving until `stop`."""
    next_sweep = time.monotonic() + _SWEEP_EVERY_S
    while not stop.wait(_LOOK_EVERY_S):
        try:
            database.revive()
            keeper.check()
            if time.monotonic() >= next_sweep:
                queue.take_over(STALLED_AFTER_S)
                next_sweep = time.monotonic() + _SWEEP_EVERY_S
        except (psycopg.Error, GlionodeError) as exc:
            _LOG.error("the database does not answer (%s); it is tried again", type(exc).__name__)
            stop.wait(2.0)


@contextmanager
def _threads(loops: list[Callable[[threading.Event], None]], drain: _Drain) -> Iterator[None]:
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
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
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
