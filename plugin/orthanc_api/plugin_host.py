"""A plugin that was written for Orthanc, in the embedded node: loaded, told of what happens, ended.

The door of this package: the node takes nothing else of it.
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
from plugin.orthanc_api.archive_watch import ArchiveWatch
from plugin.orthanc_api.callbacks import Callbacks
from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.file_routes import FILE_ROUTES
from plugin.orthanc_api.http_routes import plugin_routes
from plugin.orthanc_api.index import OrthancIndex
from plugin.orthanc_api.metrics import PluginMetrics
from plugin.orthanc_api.modalities import Modalities
from plugin.orthanc_api.module import orthanc_module
from plugin.orthanc_api.own_node import OwnNode
from plugin.orthanc_api.resource_routes import RESOURCE_ROUTES
from plugin.orthanc_api.router import OrthancRest
from plugin.orthanc_api.script import PluginFiles, loaded_script, read_configuration
from plugin.orthanc_api.store import PluginStore
from plugin.orthanc_api.tool_routes import TOOL_ROUTES
from plugin.settings.check import is_loopback
from plugin.settings.secrets import read_http_token

_LOG = logging.getLogger(__name__)


class PluginHost:
    """A plugin that is loaded."""

    def __init__(self, host: EmbeddedHost, callbacks: Callbacks, watch: ArchiveWatch) -> None:
        self._host = host
        self._callbacks = callbacks
        self._watch = watch
        self._begin = threading.Event()

    def touch(self, study_instance_uid: str, sender: Peer) -> None:
        """The node has received an instance of a study. Cheap."""
        self._watch.touch(study_instance_uid, sender)

    def on_kept(self, kept: Callable[[str, Peer], None]) -> None:
        """What is to be called with its study when the plugin has stored an instance."""
        self._host.kept = kept

    def routes(self) -> list[APIRouter]:
        """The plugin's own routes, if it has registered any. Raises SettingsWrong where all the network could ask."""
        if not self._callbacks.routes:
            return []
        http = self._host.settings.http
        token = read_http_token(http)
        if not token and not is_loopback(http.host):
            raise SettingsWrong(
                "http: beyond loopback a plugin answers only to a token. Name one by http.token_file or set "
                "http.host to 127.0.0.1."
            )
        return [plugin_routes(self._callbacks, token)]

    def begin(self, address: Address, http_url: str) -> None:
        """The node listens: the plugin may use it from now on."""
        self._host.ports.update(dicom=address.port, http=urlsplit(http_url).port or 0)
        if self._callbacks.routes and not self._host.settings.http.enabled:
            _LOG.warning("the plugin's routes are not served; set http.enabled = true")
        self._begin.set()

    def watch(self, stop: threading.Event) -> None:
        """A thread's loop: follows the archive."""
        while not self._begin.wait(0.1):
            if stop.is_set():
                return
        self._watch.run(stop)


ROUTES = (*RESOURCE_ROUTES, *FILE_ROUTES, *TOOL_ROUTES)
"""Of Orthanc's REST API."""


@contextmanager
def running_plugin(files: PluginFiles, shared: NodeContext, archive: EmbeddedArchive) -> Iterator[PluginHost]:
    """Load a plugin, call it for as long as the block runs, and tell it of the end. Raises SettingsWrong."""
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
    rest = OrthancRest(host, ROUTES)
    plugin = PluginHost(host, callbacks, ArchiveWatch(host))
    stop = threading.Event()

    def call() -> None:
        while (event := events.get()) is not None:
            callbacks.call_for(host, event)

    module = orthanc_module(host, rest, callbacks, files.script)
    module._glionode = OwnNode(host, shared.queue, shared.model.weights_sha256)  # type: ignore[attr-defined]
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
