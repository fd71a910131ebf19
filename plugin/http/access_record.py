"""Note who uses the HTTP server, by address, method, route and status: never a path or a query, which hold UIDs."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
_PROBES = frozenset(("/health", "/metrics"))
"""Not noted where they are answered: monitoring asks for them all day."""
_REFUSED = 400

NoteAccess = Callable[[str, str], object]
"""Called with the peer's address and a sentence."""


class AccessRecord:
    """ASGI middleware: passes each request on, and notes its outcome."""

    def __init__(self, app: ASGIApp, note: NoteAccess) -> None:
        self._app = app
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and note its outcome when it has ended."""
        status = 0

        async def notice(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, notice)
        finally:
            route = getattr(scope.get("route"), "path_format", None) or getattr(scope.get("route"), "path", None)
            # 503 of /health is the node's state and no refusal of the peer.
            if route not in _PROBES or status in (401, 403):
                method = scope["method"] if scope["method"] in _METHODS else "another method"
                outcome = f"refused with {status}" if status >= _REFUSED else f"answered with {status}"
                address = scope["client"][0] if scope["client"] else ""
                self._note(address, f"{method} {route or 'of no route'} {outcome if status else 'was not answered'}")
