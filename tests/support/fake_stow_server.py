"""A fake DICOMweb server for tests of STOW-RS; the end-to-end tests use Orthanc's."""

import json
import ssl
from email.message import Message
from http.client import HTTPMessage
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread

from tests.support.fake_http_server import FakeHttpServer, Response

LOGIN_PAGE = b"<!DOCTYPE html><html><form action='/login'>user, password</form></html>"


class FakeStowServer(FakeHttpServer):
    """Stores objects in memory, or responds as a test says."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.stored: dict[str, bytes] = {}
        self.reasons: dict[str, int] = {}
        """SOP Instance UIDs that are refused, with the reason."""
        self.failing_uids: set[str] = set()
        """SOP Instance UIDs whose whole request gets `failing_status`."""
        self.failing_status = 400
        self.sends_no_list = False
        self.posts: list[Response] = []
        """Responses to the next requests to store, whose objects are stored if `keeps` says so."""
        self.keeps = True
        self.searches = True
        """Whether it can be searched; else the response is a login page."""
        self.largest: int | None = None
        """Bytes of a request; for a larger one the response is that of a proxy."""
        super().__init__(tls)
        self.url += "/dicom-web"

    def respond(self, method: str, path: str, headers: HTTPMessage, body: bytes) -> Response:
        if method == "GET":
            return self.search(path)
        if self.largest is not None and len(body) > self.largest:
            return 413, b"<html>", {"Content-Type": "text/html", "Server": "nginx/1.24.0"}
        if self.posts:
            if self.keeps:
                self.store(headers["Content-Type"], body)
            return self.posts.pop(0)
        status, content = self.store(headers["Content-Type"], body)
        return status, content, {"Content-Type": "application/dicom+json"}

    def search(self, path: str) -> Response:
        """Return the objects that a search for a UID finds (QIDO-RS)."""
        if not self.searches:
            return 200, LOGIN_PAGE, {"Content-Type": "text/html"}
        (wanted,) = parse_qs(urlsplit(path).query).get("SOPInstanceUID", [""])
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.stored if uid == wanted]
        return 200, json.dumps(found).encode(), {"Content-Type": "application/dicom+json"}

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
            return self.failing_status, b""
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
