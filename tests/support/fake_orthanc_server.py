"""A fake of Orthanc's REST API, as far as the node uses it; end-to-end tests use the real one."""

import base64
import hashlib
import json
import re
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

PIXEL_DATA = 0x7FE00010


def orthanc_id(*parts: str) -> str:
    """Return the identifier that Orthanc makes from the patient ID and the UIDs down to a level."""
    digest = hashlib.sha1("|".join(parts).encode()).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 40, 8))


class _Server(ThreadingHTTPServer):
    def handle_error(self, _request: Any, _address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client closed the connection early
            super().handle_error(_request, _address)


class OrthancWeb:
    """Keeps instances in memory, and fails in the ways that a test sets."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.heads: dict[str, Dataset] = {}
        self.marks: dict[str, str] = {}
        self.check_revisions = False
        """Whether it behaves as with Orthanc's CheckRevisions."""
        self.statuses: list[int] = []
        """HTTP statuses of the next responses, whatever the requests."""
        self.answers: dict[str, tuple[int, object]] = {}
        """Responses to "METHOD PATH" in place of the usual ones."""
        self.authorization = ""
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.server = _Server(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def require_password(self, user: str, password: str) -> None:
        """Accept this user and password only."""
        self.authorization = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def store(self, content: bytes) -> str:
        """Store an instance and return its identifier."""
        head = dcmread(BytesIO(content))
        instance = orthanc_id(head.PatientID, head.StudyInstanceUID, head.SeriesInstanceUID, head.SOPInstanceUID)
        self.files[instance], self.heads[instance] = content, head
        return instance

    def studies(self) -> dict[str, str]:
        """Return the study instance UIDs by Orthanc's identifiers."""
        heads = self.heads.values()
        return {orthanc_id(head.PatientID, head.StudyInstanceUID): str(head.StudyInstanceUID) for head in heads}

    def etag(self, path: str) -> str:
        """Return the ETag of the metadata at a path; empty where there is none."""
        mark = self.marks.get(path.removeprefix("/studies/").removesuffix("/metadata/4810"))
        return f'"0-{hashlib.md5(mark.encode()).hexdigest()}"' if mark is not None else ""

    def answer(self, method: str, path: str, body: bytes, if_match: str = "") -> tuple[int, object]:
        if path == "/tools/lookup":
            return 200, self._called(body.decode())
        if path == "/tools/bulk-content":
            return 200, self._contents(json.loads(body)["Resources"])
        if method == "POST" and path == "/instances":
            before = set(self.files)
            instance = self.store(body)
            return 200, {"ID": instance, "Status": "AlreadyStored" if instance in before else "Success"}
        if (found := re.fullmatch(r"/instances/([0-9a-f-]+)/file", path)) and found[1] in self.files:
            return 200, self.files[found[1]]
        if (found := re.fullmatch(r"/studies/([0-9a-f-]+)(/metadata/4810)?", path)) and found[1] in self.studies():
            described = {"MainDicomTags": {"StudyInstanceUID": self.studies()[found[1]]}}
            outdated = self.check_revisions and if_match != self.etag(path)
            return self._metadata(method, found[1], body, outdated) if found[2] else (200, described)
        return 404, {}

    def _called(self, uid: str) -> list[dict[str, str]]:
        studies = [{"ID": each, "Type": "Study"} for each, of in self.studies().items() if of == uid]
        instances = [each for each, head in self.heads.items() if uid == head.SOPInstanceUID]
        return [*studies, *({"ID": each, "Type": "Instance"} for each in instances)]

    def _contents(self, studies: list[str]) -> list[dict[str, Any]]:
        of_study = {each: orthanc_id(head.PatientID, head.StudyInstanceUID) for each, head in self.heads.items()}
        return [self._content(each) for each, study in of_study.items() if study in studies]

    def _metadata(self, method: str, study: str, body: bytes, outdated: bool) -> tuple[int, object]:
        if method == "GET":
            return (200, self.marks[study].encode()) if study in self.marks else (404, {})
        if not outdated:
            self.marks[study] = body.decode()
        return 409 if outdated else 200, {}

    def _content(self, instance: str) -> dict[str, Any]:
        head, content = self.heads[instance], self.files[instance]
        metadata = {"SopClassUid": str(head.SOPClassUID)}
        if "PixelData" in head:
            metadata["PixelDataOffset"] = str(head.get_item(PIXEL_DATA).value_tell - 12)
        return {
            "ID": instance,
            "FileSize": len(content),
            "Metadata": metadata,
            "MainDicomTags": {"SOPInstanceUID": str(head.SOPInstanceUID)},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                web.requests.append(f"{self.command} {self.path}")
                web.bodies.append(body)
                status, found = 200, object()
                if web.authorization and self.headers.get("Authorization") != web.authorization:
                    status, found = 401, {}
                elif web.statuses:
                    status, found = web.statuses.pop(0), {}
                else:
                    status, found = web.answers.get(web.requests[-1]) or web.answer(
                        self.command, self.path, body, self.headers.get("If-Match", "")
                    )
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                if status == 301:
                    self.send_header("Location", "http://127.0.0.1:1/")
                if etag := web.etag(self.path):
                    self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:  # who asked had enough
                    self.close_connection = True

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
