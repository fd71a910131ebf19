"""Run a hosted plugin: load it, call it for what happens in the node, and end it.

The node uses this package through this module alone.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from fastapi import APIRouter

from pipeline.errors import SettingsWrong
from plugin.archive.store import EmbeddedArchive
from plugin.context import NodeContext
from plugin.database.audit_log import Peer
from plugin.listener.listener import Address
from plugin.orthanc_api.archive_watcher import ArchiveWatcher
from plugin.orthanc_api.callbacks import Callbacks
from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.file_routes import FILE_ROUTES
from plugin.orthanc_api.http_routes import plugin_routes
from plugin.orthanc_api.index import OrthancIndex
from plugin.orthanc_api.local_node import LocalNode
from plugin.orthanc_api.metrics import PluginMetrics
from plugin.orthanc_api.modalities import Modalities
from plugin.orthanc_api.module import orthanc_module
from plugin.orthanc_api.resource_routes import RESOURCE_ROUTES
from plugin.orthanc_api.router import RestApi
from plugin.orthanc_api.script import PluginFiles, loaded_script, read_configuration
from plugin.orthanc_api.store import PluginStore
from plugin.orthanc_api.tool_routes import TOOL_ROUTES
from plugin.settings.check import is_loopback
from plugin.settings.secrets import read_http_token

_LOG = logging.getLogger(__name__)


class PluginHost:
    """A plugin whose script is loaded."""

    def __init__(self, host: EmbeddedHost, callbacks: Callbacks, watch: ArchiveWatcher) -> None:
        self._host = host
        self._callbacks = callbacks
        self._watch = watch
        self._started = threading.Event()

    def touch(self, study_instance_uid: str, sender: Peer) -> None:
        """Note that the node received an instance of a study. Cheap."""
        self._watch.touch(study_instance_uid, sender)

    def on_stored(self, callback: Callable[[str, Peer], None]) -> None:
        """Set what is called with the study and sender of an instance that the plugin stored."""
        self._host.on_stored = callback

    def routes(self) -> list[APIRouter]:
        """Return the plugin's routes, if it has any. Raises SettingsWrong where they would be open to anybody."""
        if not self._callbacks.routes:
            return []
        http = self._host.settings.http
        token = read_http_token(http)
        if http.enabled and not token and not (http.allow_without_token and is_loopback(http.host)):
            raise SettingsWrong(
                "http: the routes of a plugin may show and delete patients, so they need a token. Name one by "
                "http.token_file (`openssl rand -hex 32` makes a good one). http.allow_without_token, on loopback "
                "alone, serves them to everybody on this machine."
            )
        if not token:
            _LOG.warning("the routes of the hosted plugin are served without a token: %s", http.allow_without_token)
        return [plugin_routes(self._callbacks, token)]

    def start(self, address: Address, http_url: str) -> None:
        """Let the plugin run, now that the node listens."""
        self._host.ports.update(dicom=address.port, http=urlsplit(http_url).port or 0)
        if self._callbacks.routes and not self._host.settings.http.enabled:
            _LOG.warning("the routes of the hosted plugin are not served: set http.enabled = true")
        self._started.set()

    def watch(self, stop: threading.Event) -> None:
        """Follow the archive until `stop`, in a thread of its own."""
        while not self._started.wait(0.1):
            if stop.is_set():
                return
        self._watch.run(stop)


ROUTES = (*RESOURCE_ROUTES, *FILE_ROUTES, *TOOL_ROUTES)
"""The routes of Orthanc's REST API that are supported."""


@contextmanager
def running_plugin(files: PluginFiles, shared: NodeContext, archive: EmbeddedArchive) -> Iterator[PluginHost]:
    """Load a plugin, run it during the block, and emit ORTHANC_STOPPED at its end. Raises SettingsWrong."""
    settings = shared.settings
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    callbacks = Callbacks()
    host = EmbeddedHost(
        settings,
        archive,
        OrthancIndex(),
        PluginStore(shared.database.pool),
        Modalities(settings),
        read_configuration(files.configuration, settings),
        PluginMetrics(),
        events.put,
        configuration_path=files.configuration,
    )
    shared.metrics.registry.register(host.metrics)
    rest = RestApi(host, ROUTES)
    plugin = PluginHost(host, callbacks, ArchiveWatcher(host))
    stop = threading.Event()

    def call() -> None:
        while (event := events.get()) is not None:
            callbacks.dispatch(host, event)

    module = orthanc_module(host, rest, callbacks, files.script)
    module._glionode = LocalNode(host, shared.queue, shared.model.sha256)  # type: ignore[attr-defined]
    with loaded_script(files.script, module):
        threads = [
            threading.Thread(target=plugin.watch, args=(stop,), name="plugin-watch", daemon=True),
            threading.Thread(target=call, name="plugin-calls", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield plugin
        finally:
            stop.set()
            threads[0].join(shared.shutdown_deadline.left_s())
            if host.started:
                events.put(Event(ChangeType.ORTHANC_STOPPED))
            events.put(None)
            threads[1].join(shared.shutdown_deadline.left_s())
