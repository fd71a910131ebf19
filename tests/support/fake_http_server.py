"""A base class for fake HTTP servers on loopback, which respond as a test says."""

import ssl
import sys
import threading
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Response = tuple[int, bytes, dict[str, str]]
"""The status, the body and further headers."""


DROPPED = 0
"""In place of a status: the connection ends without a response."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, _request: Any, _address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client closed the connection early
            super().handle_error(_request, _address)


class FakeHttpServer:
    """Runs in a thread from its construction to `stop`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.statuses: list[int] = []
        """HTTP statuses of the next responses, whatever is requested."""
        self.authorization = ""
        """The required Authorization header; empty if none is."""
        self.requests: list[str] = []
        """The method and the path of each request."""
        self.bodies: list[bytes] = []
        self.server = _Server(("127.0.0.1", 0), self._make_handler())
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def respond(self, method: str, path: str, headers: HTTPMessage, body: bytes) -> Response:
        """Handle a request that is authorized and whose status no test has set."""
        raise NotImplementedError

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.requests.append(f"{self.command} {self.path}")
                fake.bodies.append(body)
                headers: dict[str, str] = {}
                if fake.authorization and self.headers.get("Authorization") != fake.authorization:
                    status, content = 401, b""
                elif fake.statuses:
                    status, content = fake.statuses.pop(0), b""
                else:
                    status, content, headers = fake.respond(self.command, self.path, self.headers, body)
                if status == DROPPED:
                    self.close_connection = True
                    return
                self.send_response(status)
                if status in (301, 307):
                    self.send_header("Location", fake.url)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:  # the client closed the connection early
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler
