"""Serve a node process over HTTP: health, metrics, the archive for other hosts, and routes of a hosted plugin."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from plugin.archive.store import EmbeddedArchive
from plugin.context import NodeContext
from plugin.database.audit_log import AuditEvent, Peer
from plugin.http.database_probe import DatabaseProbe
from plugin.http.health import (
    HealthCheck,
    check_database,
    check_deliveries,
    check_free_space,
    check_workers,
    seconds_since,
)
from plugin.listener.listener import Listener
from plugin.settings.check import may_receive
from plugin.settings.secrets import read_http_token
from plugin.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost


@dataclass(slots=True)
class NodeHttp:
    """The HTTP server of a process.

    It starts before the DICOM listener and stops after it, because workers deliver results while the node shuts down.
    """

    url: str
    checks: dict[str, HealthCheck] = field(repr=False)

    def mark_ready(self, listener: Listener | None, supervisor: WorkerSupervisor | None) -> None:
        """Include the services that have started in the health checks."""
        if listener is not None:
            self.checks["listener"] = lambda: None if listener.is_running else "The DICOM listener has stopped."
        if supervisor is not None:
            self.checks["worker_process"] = supervisor.find_trouble
        del self.checks["start"]


@contextmanager
def serve_http(
    context: NodeContext,
    archive: EmbeddedArchive | None,
    plugin: "PluginHost | None" = None,
    checks_deliveries: bool = True,
) -> Iterator[NodeHttp]:
    """Serve HTTP while the block runs. The archive is served only if the settings have a token for it.

    `checks_deliveries`: whether /health fails where deliveries stand still, on whatever host.

    Raises:
        SettingsWrong: the port is taken, or the certificate or token cannot be read.
    """
    from plugin.http.archive_routes import archive_routes
    from plugin.http.metrics_collector import NodeMetricsCollector
    from plugin.http.server import http_server, make_app
    from plugin.http.warning_checks import find_warnings

    settings, pool = context.settings, context.database.pool
    destinations = [
        each.name
        for each in settings.destinations
        if checks_deliveries and may_receive(each, context.model.intended_use)
    ]
    probe = DatabaseProbe(context.database.url)
    checks: dict[str, HealthCheck] = {
        "start": lambda: "The node is starting.",
        "database": lambda: check_database(probe),
        "disk": lambda: check_free_space(settings.data_dir, settings.storage.minimum_free_mb),
    }
    if archive is not None:
        checks["worker"] = lambda: check_workers(probe)
    if destinations:
        checks["deliveries"] = lambda: check_deliveries(probe, destinations)
    registry = context.metrics.registry
    registry.register(NodeMetricsCollector(settings, probe, checks, receives=archive is not None))
    token = read_http_token(settings.http)
    # Uploads may use the space below storage.minimum_free_mb, which is kept free for results.
    uploads = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
    routes = [archive_routes(uploads, token)] if archive is not None and token else []
    if routes and settings.orthanc.url:
        from plugin.orthanc.intake import OrthancIntake
        from plugin.orthanc.routes import orthanc_routes

        model = context.model.sha256
        intake = OrthancIntake(settings.orthanc, context.queue, pool, model, settings.destinations)
        routes.append(orthanc_routes(intake, token))
    if plugin is not None:
        routes += plugin.routes()
    app = make_app(
        checks,
        registry,
        *routes,
        find_warnings=partial(find_warnings, settings, probe),
        find_times=partial(seconds_since, probe, destinations),
    )

    def note(address: str, what: str) -> None:
        context.access.note(AuditEvent.HTTP, Peer("", address), what)

    with closing(probe), http_server(settings.http, app, context.shutdown_deadline.left_s, note) as url:
        yield NodeHttp(url, checks)
