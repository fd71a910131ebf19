"""The node's processes: all parts in one (`serve`), or receiving, work and delivery apart, on one host or on several.

Parts are started in order and ended in the reverse one. What they tell each other is in the database.
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
from plugin.context import Drain, NodeContext
from plugin.database.pool import running_database
from plugin.http.metrics import Metrics
from plugin.jobs.queue import STALLED_AFTER_S, JobQueue
from plugin.listener.listener import Address
from plugin.node.http_app import http_of
from plugin.node.lock import RunningNode, announce, archive_lock
from plugin.node.services import delivering, own_archive, receiving, stopped_by_signals, working
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

_LOOK_EVERY_S = 0.25
_SWEEP_EVERY_S = 5.0

OnReady = Callable[[Address], None]
"""Called once, when the node listens."""


class Part(Enum):
    """What a process of a node does; the values are the commands that do nothing else."""

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
    """Run a whole node until `stop` is set or, on the main thread, SIGTERM or SIGINT comes.

    `plugin` was written for Orthanc and runs beside it. It drains for `shutdown.drain_s` and ends soon after. A kill -9
    ends worker and database too. Raises SettingsWrong, ModelUnusable and DatabaseUnavailable before anything listens.
    """
    _run(settings, frozenset(Part), make_segment, stop, on_ready, plugin)


def listen(settings: Settings, stop: threading.Event | None = None, on_ready: OnReady | None = None) -> None:
    """Receive studies, make jobs of them, and nothing else; see `serve`. Raises SettingsWrong without database.url."""
    _run(settings, frozenset({Part.RECEIVE}), None, stop, on_ready)


def work(settings: Settings, make_segment: SegmentFactory, stop: threading.Event | None = None) -> None:
    """Run jobs, and nothing else; see `serve`. Raises SettingsWrong without database.url."""
    _run(settings, frozenset({Part.WORK}), make_segment, stop, None)


def deliver(settings: Settings, stop: threading.Event | None = None) -> None:
    """Send results, and nothing else; see `serve`. Raises SettingsWrong without database.url."""
    _run(settings, frozenset({Part.DELIVER}), None, stop, None)


def _run(
    settings: Settings,
    parts: frozenset[Part],
    make_segment: SegmentFactory | None,
    stop: threading.Event | None,
    on_ready: OnReady | None,
    plugin_files: "PluginFiles | None" = None,
) -> None:
    stop = stop or threading.Event()
    _refuse_wrong_settings(settings, parts)
    model = served_package(settings.model.name, settings.installed_models_dir)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signals(stop))
        archive = stack.enter_context(own_archive(settings)) if Part.RECEIVE in parts else None
        database = stack.enter_context(running_database(settings))
        if archive is not None and not database.embedded:
            stack.enter_context(archive_lock(database.url))
        shared = NodeContext(settings, model, database, JobQueue(database), Drain(settings.shutdown.drain_s), Metrics())
        shared.queue.take_over(0.0 if database.embedded else STALLED_AFTER_S)
        keeper = stack.enter_context(working(shared, make_segment)) if make_segment is not None else None
        if Part.DELIVER in parts:
            stack.enter_context(delivering(shared))
        plugin = stack.enter_context(_plugin(plugin_files, shared, archive))
        http = stack.enter_context(http_of(shared, archive, plugin)) if settings.http.enabled else None
        listener = stack.enter_context(receiving(shared, archive, plugin)) if archive is not None else None
        if http is not None:
            http.open(listener, keeper)
        if listener is not None:
            _announce(settings, listener.address, http.url if http is not None else "")
            if plugin is not None:
                plugin.begin(listener.address, http.url if http is not None else "")
            if on_ready is not None:
                on_ready(listener.address)
        else:
            _LOG.info("ready to %s", " and ".join(sorted(part.value for part in parts)))
        _watch(shared, keeper, stop)
        _LOG.info("stopping")
        if keeper is not None:
            keeper.ask_to_end()
    _LOG.info("stopped")


def _refuse_wrong_settings(settings: Settings, parts: frozenset[Part]) -> None:
    for finding in check_settings(settings, None):
        if finding.severity is Severity.ERROR:
            raise SettingsWrong(f"{finding.key}: {finding.text}")
    if parts != frozenset(Part) and not settings.database.url:
        raise SettingsWrong(
            "database.url is empty, and the embedded database is only for `glionode serve`, which is all parts in one. "
            "Name a PostgreSQL server that all hosts reach, or run `glionode serve`."
        )
    if parts == frozenset(Part) and settings.http.archive_url:
        raise SettingsWrong(
            "http.archive_url is for `glionode work` and `glionode deliver`; `glionode serve` has its own archive. "
            "Leave it empty."
        )
    # Read once more where they are needed; here so that what is wrong with them is said before anything starts.
    read_http_token(settings.http)
    archive_context(settings.http)


def _plugin(
    files: "PluginFiles | None", shared: NodeContext, archive: EmbeddedArchive | None
) -> "AbstractContextManager[PluginHost | None]":
    if files is None or archive is None:
        return nullcontext()
    from plugin.orthanc_api.plugin_host import running_plugin

    return running_plugin(files, shared, archive)


def _announce(settings: Settings, address: Address, http_url: str) -> None:
    host, port = address.host, address.port
    announce(settings.data_dir, RunningNode(os.getpid(), address.ae_title, host, port, time.time(), http_url))
    _LOG.info("listening as %s on %s:%d", address.ae_title, address.host, address.port)


def _watch(shared: NodeContext, keeper: WorkerSupervisor | None, stop: threading.Event) -> None:
    """Keep database and worker alive, and the jobs of all workers moving, until `stop`.

    Every process sweeps, so that whichever is alive finds the jobs of one that is not.
    """
    next_sweep = time.monotonic() + _SWEEP_EVERY_S
    while not stop.wait(_LOOK_EVERY_S):
        try:
            shared.database.revive()
            if keeper is not None:
                keeper.check()
            if time.monotonic() >= next_sweep:
                shared.queue.take_over(STALLED_AFTER_S)
                next_sweep = time.monotonic() + _SWEEP_EVERY_S
        except (psycopg.Error, ProcrastinateException, GlionodeError) as exc:
            _LOG.error("the database does not answer (%s); it is tried again", type(exc).__name__)
            stop.wait(2.0)
