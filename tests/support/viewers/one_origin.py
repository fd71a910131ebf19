"""Serve OHIF's files and a DICOMweb server behind one origin, as OHIF's isolation headers require."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj

APP_CONFIG = Path(__file__).with_name("app-config.js")
DICOMWEB = "/dicom-web/"
"""Orthanc's own prefix, so that the addresses in its responses stay valid."""
_FORWARDED = ("Accept", "Host", "Range")
"""Forwarded request headers. Orthanc makes absolute addresses of bulk data from Host."""
_ANSWERED = ("Content-Type", "Content-Length", "Content-Range")


class _OneOrigin(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm", ".js": "text/javascript"}

    def __init__(self, *args: object, viewer: Path, dicomweb_port: int) -> None:
        self._dicomweb = f"http://127.0.0.1:{dicomweb_port}"
        super().__init__(*args, directory=str(viewer))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.startswith(DICOMWEB):
            self._forward()
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        """Map to our configuration in place of the viewer's, and to the viewer's page for its routes (/viewer?...)."""
        if path.partition("?")[0] == "/app-config.js":
            return str(APP_CONFIG)
        file = Path(super().translate_path(path))
        return str(file if file.is_file() else Path(self.directory) / "index.html")

    def end_headers(self) -> None:
        # Both are needed for SharedArrayBuffer, which cornerstone's volumes live in.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: addresses contain UIDs of studies."""

    def _forward(self) -> None:
        headers = {name: self.headers[name] for name in _FORWARDED if name in self.headers}
        try:
            answer = urllib.request.urlopen(urllib.request.Request(self._dicomweb + self.path, headers=headers))
        except urllib.error.HTTPError as exc:
            self.send_error(exc.code)
            return
        with answer:
            self.send_response(HTTPStatus(answer.status))
            for name in _ANSWERED:
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            if "Content-Length" not in answer.headers:
                self.send_header("Connection", "close")
            self.end_headers()
            copyfileobj(answer, self.wfile)


@contextmanager
def one_origin(viewer: Path, dicomweb_port: int) -> Iterator[str]:
    """Serve the built viewer in `viewer` and the DICOMweb server of a port of loopback; yields the origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_OneOrigin, viewer=viewer, dicomweb_port=dicomweb_port))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
