"""Serve the HTTP of a process, in a thread of its own: /health, /metrics, and the routes that it is given."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pipeline.errors import SettingsWrong
from plugin.http.access_record import AccessRecord, NoteAccess
from plugin.http.connections import (
    BoundedConfig,
    BoundedServer,
    ConnectionLimits,
    Connections,
    LimitedListener,
)
from plugin.http.health import FindTimes, FindWarnings, HealthCheck, run_checks
from plugin.http.request_origin import CheckOrigin, own_names
from plugin.settings.sections import HttpSettings
from plugin.settings.tls_reload import current_server_context

_LOG = logging.getLogger(__name__)

_KEEP_ALIVE_S = 30
_START_TIMEOUT_S = 10.0
_END_WITHIN_S = 0.5
"""What the server needs to end where no request runs; it looks ten times a second whether it has to."""
_PROBES_AT_A_TIME = 4
"""Threads for /health and /metrics, of their own, so that they answer while requests of other routes hang."""


def make_app(
    checks: Mapping[str, HealthCheck],
    registry: CollectorRegistry,
    *routers: APIRouter,
    find_warnings: FindWarnings = dict,
    find_times: FindTimes = dict,
) -> FastAPI:
    """Return the application for `http_server`. /health and /metrics need no token, and name no study or patient."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    threads = CapacityLimiter(_PROBES_AT_A_TIME)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Respond with 200 if no check finds anything wrong, else with 503, and the result of each check.

        Warnings are in the body alone.
        """
        result = await to_thread.run_sync(run_checks, checks, find_warnings, find_times, limiter=threads)
        return JSONResponse(result.as_json(), 200 if result.healthy else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Respond with the metrics in the text format of Prometheus."""
        text = await to_thread.run_sync(generate_latest, registry, limiter=threads)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    for router in routers:
        app.include_router(router)
    return app


@contextmanager
def http_server(
    settings: HttpSettings,
    app: FastAPI,
    left_s: Callable[[], float] = lambda: 1.0,
    note_access: NoteAccess = lambda _address, _what: None,
) -> Iterator[str]:
    """Serve `app` as long as the block runs; give its URL. Raises SettingsWrong.

    `left_s` is called at the end of the block; it returns how long running requests may take then, in seconds.
    """
    tls = current_server_context(settings, "http")
    limits = ConnectionLimits(settings.max_connections, settings.max_connections_per_address, settings.stall_timeout_s)
    connections = Connections(limits)
    listening = _bind(settings, connections)
    config = BoundedConfig(
        AccessRecord(CheckOrigin(app, own_names(settings)), note_access),
        connections,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        ssl_context_factory=(lambda _config, _default: tls) if tls is not None else None,
    )
    server = BoundedServer(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="http", daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if tls is not None else 'http'}://{shown}:{port}"
        _LOG.info("health and metrics on %s", url)
        yield url
    finally:
        _stop(server, thread, left_s())
        listening.close()


def _stop(server: BoundedServer, thread: threading.Thread, drain_s: float) -> None:
    """Let running requests end for `drain_s` seconds, then break them off."""
    # uvicorn wants whole seconds and takes any number. It writes a traceback for each request that it breaks off.
    server.config.timeout_graceful_shutdown = drain_s  # type: ignore[assignment]
    log = logging.getLogger("uvicorn.error")
    level = log.level
    log.setLevel(logging.CRITICAL)
    server.should_exit = True
    thread.join(drain_s)
    if running := len(server.server_state.tasks):
        _LOG.warning("%d HTTP requests did not end in time and are broken off", running)
    thread.join(_END_WITHIN_S)
    log.setLevel(level)


def _bind(settings: HttpSettings, connections: Connections) -> LimitedListener:
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = LimitedListener(family, kind, number)
        listening.connections = connections
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as exc:
        raise SettingsWrong(
            f"http: cannot listen on {where} ({exc.strerror}). Choose another http.port, or 0 for a free one."
        ) from exc
    return listening


def _await_start(server: BoundedServer, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise SettingsWrong("http: the server does not start; see the log.")
        time.sleep(0.01)
