"""Run the processes of a node: all services in one (`serve`), or each in a process of its own, on one host or several.

Services start in order and stop in reverse order. Processes communicate through the database alone.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from enum import Enum
from typing import TYPE_CHECKING

import psycopg
from procrastinate.exceptions import ProcrastinateException

from pipeline.errors import GlionodeError, SettingsWrong
from plugin.archive.store import EmbeddedArchive
from plugin.context import NodeContext, ShutdownDeadline
from plugin.database.access_audit import AccessAudit
from plugin.database.lease import forget_leases
from plugin.database.pool import running_database
from plugin.database.upgrade import prepare_schema
from plugin.http.metrics import Metrics
from plugin.jobs.future_times import bring_back
from plugin.jobs.procrastinate_queue import STALLED_AFTER_S
from plugin.jobs.queue import JobQueue
from plugin.listener.listener import Address
from plugin.logs import Outage, keeping_last_lines
from plugin.node.data_folder import open_data_folder
from plugin.node.database_mark import hold_unknown_studies
from plugin.node.forced_end import forced_end, graceful_s
from plugin.node.http_app import serve_http
from plugin.node.lock import RunningNode, announce, archive_lock
from plugin.node.services import delivering, open_archive, receiving, recording_access, stopped_by_signals, working
from plugin.settings.check import Severity, check_settings
from plugin.settings.secrets import read_http_token
from plugin.settings.sections import Settings
from plugin.settings.tls import archive_context
from plugin.sources.served_model import served_package
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost
    from plugin.orthanc_api.script import PluginFiles

_LOG = logging.getLogger(__name__)

_CHECK_EVERY_S = 0.25
_SWEEP_EVERY_S = 5.0
_CHECK_TIMES_EVERY_S = 60.0

OnReady = Callable[[Address], None]
"""Called once, when the node listens."""


class Service(Enum):
    """A service of a node. The values are the commands that run this service alone."""

    RECEIVE = "listen"
    WORK = "work"
    DELIVER = "deliver"


def serve(
    settings: Settings,
    make_segment: SegmentFactory,
    stop: threading.Event | None = None,
    on_ready: OnReady | None = None,
    plugin: "PluginFiles | None" = None,
) -> None:
    """Run a whole node until `stop` is set or, on the main thread, SIGTERM or SIGINT arrives.

    `plugin` is a hosted plugin, a Python script written for Orthanc. Shutting down takes about `shutdown.drain_s`
    seconds at most. After a kill -9, the kernel ends worker and database too.

    Raises:
        SettingsWrong, ModelUnusable, DatabaseUnavailable: before anything listens.
    """
    _run(settings, frozenset(Service), make_segment, stop, on_ready, plugin)


def listen(settings: Settings, stop: threading.Event | None = None, on_ready: OnReady | None = None) -> None:
    """Run only the service that receives studies and makes jobs of them; see `serve`. Needs database.url."""
    _run(settings, frozenset({Service.RECEIVE}), None, stop, on_ready)


def work(settings: Settings, make_segment: SegmentFactory, stop: threading.Event | None = None) -> None:
    """Run only the service that runs jobs; see `serve`. Needs database.url."""
    _run(settings, frozenset({Service.WORK}), make_segment, stop)


def deliver(settings: Settings, stop: threading.Event | None = None) -> None:
    """Run only the service that sends results; see `serve`. Needs database.url."""
    _run(settings, frozenset({Service.DELIVER}), None, stop)


def _run(
    settings: Settings,
    services: frozenset[Service],
    make_segment: SegmentFactory | None,
    stop: threading.Event | None,
    on_ready: OnReady | None = None,
    plugin_files: "PluginFiles | None" = None,
) -> None:
    stop = stop or threading.Event()
    _refuse_wrong_settings(settings, services)
    model = served_package(settings.model.name, settings.installed_models_dir)
    open_data_folder(settings.data_dir)
    with ExitStack() as stack:
        drain_s = settings.shutdown.drain_s
        deadline = ShutdownDeadline(graceful_s(drain_s))
        stack.enter_context(forced_end(drain_s))
        stack.enter_context(stopped_by_signals(stop, deadline))
        name = "node" if len(services) > 1 else next(iter(services)).value
        stack.enter_context(keeping_last_lines(settings.data_dir, name))
        archive = stack.enter_context(open_archive(settings)) if Service.RECEIVE in services else None
        database = stack.enter_context(running_database(settings))
        prepare_schema(database, owns=archive is not None)
        if database.embedded:
            forget_leases(database.pool)  # of an earlier process: the lock on the folder says that it has ended
        elif archive is not None:
            stack.enter_context(archive_lock(database.url, stop))
        access = AccessAudit(database.pool)
        context = NodeContext(settings, model, database, JobQueue(database), deadline, Metrics(), access)
        stack.enter_context(recording_access(context))
        _bring_back_times(context)  # first: a worker with a heartbeat that is still to come would count as alive
        if archive is not None:
            hold_unknown_studies(settings.data_dir, database.pool)
        context.queue.requeue_stalled(0.0 if database.embedded else STALLED_AFTER_S)
        supervisor = stack.enter_context(working(context, make_segment)) if make_segment is not None else None
        if Service.DELIVER in services:
            stack.enter_context(delivering(context))
        plugin = stack.enter_context(_hosted_plugin(plugin_files, context, archive))
        http = (
            stack.enter_context(serve_http(context, archive, plugin, services != {Service.WORK}))
            if settings.http.enabled
            else None
        )
        listener = stack.enter_context(receiving(context, archive, plugin)) if archive is not None else None
        if http is not None:
            http.mark_ready(listener, supervisor)
        if listener is not None:
            _announce(settings, listener.address, http.url if http is not None else "")
            if plugin is not None:
                plugin.start(listener.address, http.url if http is not None else "")
            if on_ready is not None:
                on_ready(listener.address)
        else:
            _LOG.info("ready to %s", " and ".join(sorted(service.value for service in services)))
        _supervise(context, supervisor, stop)
        _LOG.info("stopping")
        if supervisor is not None:
            supervisor.request_stop()
    _LOG.info("stopped")


def _refuse_wrong_settings(settings: Settings, services: frozenset[Service]) -> None:
    for finding in check_settings(settings, None):
        if finding.severity is Severity.ERROR:
            raise SettingsWrong(f"{finding.key}: {finding.text}")
    if services != frozenset(Service) and not settings.database.url:
        raise SettingsWrong(
            "database.url is empty, and only `glionode serve`, which runs all services in one process, can use the "
            "embedded database. Name a PostgreSQL server that all hosts reach, or run `glionode serve`."
        )
    if services == frozenset(Service) and settings.http.archive_url:
        raise SettingsWrong(
            "http.archive_url is for `glionode work` and `glionode deliver`; `glionode serve` has its own archive. "
            "Leave it empty."
        )
    # Read here as well as where they are used, so that an error is reported before anything starts.
    read_http_token(settings.http)
    archive_context(settings.http)


def _hosted_plugin(
    files: "PluginFiles | None", context: NodeContext, archive: EmbeddedArchive | None
) -> "AbstractContextManager[PluginHost | None]":
    if files is None or archive is None:
        return nullcontext()
    from plugin.orthanc_api.plugin_host import running_plugin

    return running_plugin(files, context, archive)


def _announce(settings: Settings, address: Address, http_url: str) -> None:
    host, port = address.host, address.port
    announce(settings.data_dir, RunningNode(os.getpid(), address.ae_title, host, port, time.time(), http_url))
    _LOG.info("listening as %s on %s:%d", address.ae_title, address.host, address.port)


def _supervise(context: NodeContext, supervisor: WorkerSupervisor | None, stop: threading.Event) -> None:
    """Keep database and worker running, and requeue stalled jobs of all workers, until `stop` is set.

    Every process does the latter, so that any process that is alive recovers the jobs of one that is not.
    """
    next_sweep = time.monotonic() + _SWEEP_EVERY_S
    database = Outage(_LOG, "the database")
    next_check_of_times = time.monotonic() + _CHECK_TIMES_EVERY_S
    while not stop.wait(_CHECK_EVERY_S):
        try:
            context.database.ensure_running()
            if supervisor is not None:
                supervisor.check()
            if time.monotonic() >= next_sweep:
                if time.monotonic() >= next_check_of_times:
                    _bring_back_times(context)
                    next_check_of_times = time.monotonic() + _CHECK_TIMES_EVERY_S
                context.queue.requeue_stalled(STALLED_AFTER_S)
                next_sweep = time.monotonic() + _SWEEP_EVERY_S
                database.works()
        except (psycopg.Error, ProcrastinateException, GlionodeError) as exc:
            said = f": {exc}" if isinstance(exc, GlionodeError) else ""
            database.failed(f"it does not answer ({type(exc).__name__}){said}", type(exc).__name__, logging.ERROR)
            stop.wait(2.0)


def _bring_back_times(context: NodeContext) -> None:
    with context.database.pool.connection() as connection:
        bring_back(connection, context.settings.delivery.retry_longest_s)
