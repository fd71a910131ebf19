"""A small DICOMweb server for tests of STOW-RS, on the standard library; the real one is in the end-to-end tests."""

import json
import ssl
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import dcmread


class WebArchive:
    """Stores what it gets in memory, under conditions that a test sets."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.stored: dict[str, bytes] = {}
        self.reasons: dict[str, int] = {}
        """SOP instance UIDs that are not taken, with the reason that is said."""
        self.statuses: list[int] = []
        """HTTP statuses that the next requests are answered with, before anything is looked at."""
        self.spoilt_by: set[str] = set()
        """UIDs that make the whole request an HTTP 400."""
        self.authorization = ""
        """What the header has to say; empty: nothing is asked for."""
        self.says_nothing = False
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

    def answer(self, content_type: str, body: bytes) -> tuple[int, bytes]:
        header = Message()
        header["Content-Type"] = content_type
        assert (header.get_content_type(), header.get_param("type")) == ("multipart/related", "application/dicom")
        # RFC 2046 5.1.1, by hand: the standard library's parser is for mail and changes line ends in binary parts.
        delimiter = b"\r\n--" + str(header.get_param("boundary")).encode()
        _, *between, last = (b"\r\n" + body).split(delimiter)
        assert last.strip() == b"--"
        parts = [part.partition(b"\r\n\r\n")[2] for part in between]
        uids = [str(dcmread(BytesIO(part)).SOPInstanceUID) for part in parts]
        if self.spoilt_by & set(uids):
            return 400, b""
        failed = {uid: self.reasons[uid] for uid in uids if uid in self.reasons}
        self.stored |= {uid: part for uid, part in zip(uids, parts, strict=True) if uid not in failed}
        if self.says_nothing:
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
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(lambda: archive.answer(self.headers["Content-Type"], body))

            def do_GET(self) -> None:
                self._answer(lambda: (200, b"[]"))

            def _answer(self, ask: Any) -> None:
                archive.requests.append(f"{self.command} {self.path.partition('?')[0]}")
                if archive.authorization and self.headers.get("Authorization") != archive.authorization:
                    status, answer = 401, b""
                elif archive.statuses:
                    status, answer = archive.statuses.pop(0), b""
                else:
                    status, answer = ask()
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", archive.url)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
