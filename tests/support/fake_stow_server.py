"""A fake DICOMweb server for tests of STOW-RS; the end-to-end tests use Orthanc's."""

import json
import ssl
from email.message import Message
from http.client import HTTPMessage
from io import BytesIO

from pydicom import dcmread

from tests.support.fake_http_server import FakeHttpServer, Response


class FakeStowServer(FakeHttpServer):
    """Stores objects in memory, or responds as a test says."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.stored: dict[str, bytes] = {}
        self.reasons: dict[str, int] = {}
        """SOP Instance UIDs that are refused, with the reason."""
        self.failing_uids: set[str] = set()
        """SOP Instance UIDs whose whole request gets HTTP 400."""
        self.sends_no_list = False
        super().__init__(tls)
        self.url += "/dicom-web"

    def respond(self, method: str, path: str, headers: HTTPMessage, body: bytes) -> Response:
        status, content = self.store(headers["Content-Type"], body) if method == "POST" else (200, b"[]")
        return status, content, {"Content-Type": "application/dicom+json"}

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
