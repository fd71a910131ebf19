"""What of a process is shown over HTTP: the questions about its health fit the parts that it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plugin.archive.store import EmbeddedArchive
from plugin.context import NodeContext
from plugin.http.health import Question, database_answers, room_left, worker_seen
from plugin.listener.listener import Listener
from plugin.settings.secrets import read_http_token
from plugin.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from plugin.orthanc_api.plugin_host import PluginHost


@dataclass(slots=True)
class NodeHttp:
    """The HTTP of a process, open from before its listener to after it: workers bring results while it drains."""

    url: str
    questions: dict[str, Question] = field(repr=False)

    def open(self, listener: Listener | None, keeper: WorkerSupervisor | None) -> None:
        """All parts have started: ask them from now on."""
        if listener is not None:
            self.questions["listener"] = lambda: None if listener.is_running else "The DICOM listener has ended."
        if keeper is not None:
            self.questions["worker_process"] = lambda: None if keeper.runs else "The worker has ended."
        del self.questions["start"]


@contextmanager
def http_of(
    shared: NodeContext, archive: EmbeddedArchive | None, plugin: "PluginHost | None" = None
) -> Iterator[NodeHttp]:
    """Serve health, metrics, the archive if there is one and a token for it, and what a plugin answers.

    Raises SettingsWrong.
    """
    from plugin.http.archive_routes import archive_routes
    from plugin.http.metrics_collector import NodeMetricsCollector
    from plugin.http.server import http_server, make_app

    settings, pool = shared.settings, shared.database.pool
    questions: dict[str, Question] = {
        "start": lambda: "It is starting.",
        "database": lambda: database_answers(pool),
        "disk": lambda: room_left(settings.data_dir, settings.storage.minimum_free_mb),
    }
    if archive is not None:
        questions["worker"] = lambda: worker_seen(pool)
    shared.meters.registry.register(NodeMetricsCollector(pool, settings.data_dir, receives=archive is not None))
    token = read_http_token(settings.http)
    # Without the floor: what results need has to fit in what is left for that.
    uploads = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
    routes = [archive_routes(uploads, token)] if archive is not None and token else []
    if routes and settings.orthanc.url:
        from plugin.orthanc.intake import OrthancIntake
        from plugin.orthanc.routes import orthanc_routes

        model = shared.model.weights_sha256
        intake = OrthancIntake(settings.orthanc, shared.queue, pool, model, settings.destinations)
        routes.append(orthanc_routes(intake, token))
    if plugin is not None:
        routes += plugin.routes()
    app = make_app(questions, shared.meters.registry, *routes)
    with http_server(settings.http, app, settings.shutdown.drain_s) as url:
        yield NodeHttp(url, questions)
