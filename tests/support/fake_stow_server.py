"""A fake DICOMweb server for tests of STOW-RS; the end-to-end tests use Orthanc's."""

import json
import ssl
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import dcmread


class FakeStowServer:
    """Stores objects in memory, or responds as a test says."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.stored: dict[str, bytes] = {}
        self.reasons: dict[str, int] = {}
        """SOP Instance UIDs that are refused, with the reason."""
        self.statuses: list[int] = []
        """HTTP statuses of the next responses, whatever is requested."""
        self.failing_uids: set[str] = set()
        """SOP Instance UIDs whose whole request gets HTTP 400."""
        self.authorization = ""
        """The required Authorization header; empty if none is."""
        self.sends_no_list = False
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def store(self, content_type: str, body: bytes) -> tuple[int, bytes]:
        header = Message()
        header["Content-Type"] = content_type
        assert (header.get_content_type(), header.get_param("type")) == ("multipart/related", "application/dicom")
        # RFC 2046 5.1.1, by hand: the standard library's parser is for mail and changes line ends in binary parts.
        delimiter = b"\r\n--" + str(header.get_param("boundary")).encode()
        _, *between, last = (b"\r\n" + body).split(delimiter)
        assert last.strip() == b"--"
        parts = [part.partition(b"\r\n\r\n")[2] for part in between]
        uids = [str(dcmread(BytesIO(part)).SOPInstanceUID) for part in parts]
        if self.failing_uids & set(uids):
            return 400, b""
        failed = {uid: self.reasons[uid] for uid in uids if uid in self.reasons}
        self.stored |= {uid: part for uid, part in zip(uids, parts, strict=True) if uid not in failed}
        if self.sends_no_list:
            return 200, b""
        sequences = {
            "00081199": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids if uid not in failed],
            "00081198": [
                {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
                for uid, reason in failed.items()
            ],
        }
        answer = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
        return (200 if not failed else 409 if len(failed) == len(uids) else 202), json.dumps(answer).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._respond(lambda: fake.store(self.headers["Content-Type"], body))

            def do_GET(self) -> None:
                self._respond(lambda: (200, b"[]"))

            def _respond(self, handle: Any) -> None:
                fake.requests.append(f"{self.command} {self.path.partition('?')[0]}")
                if fake.authorization and self.headers.get("Authorization") != fake.authorization:
                    status, body = 401, b""
                elif fake.statuses:
                    status, body = fake.statuses.pop(0), b""
                else:
                    status, body = handle()
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", fake.url)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
