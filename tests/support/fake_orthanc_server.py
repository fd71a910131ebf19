"""A fake of Orthanc's REST API, as far as the node uses it; end-to-end tests use the real one."""

import base64
import hashlib
import json
import re
import ssl
from http.client import HTTPMessage
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

from tests.support.fake_http_server import FakeHttpServer, Response

PIXEL_DATA = 0x7FE00010


def orthanc_id(*parts: str) -> str:
    """Return the identifier that Orthanc makes from the patient ID and the UIDs down to a level."""
    digest = hashlib.sha1("|".join(parts).encode()).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 40, 8))


class FakeOrthancServer(FakeHttpServer):
    """Keeps instances in memory, and fails in the ways that a test sets."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.heads: dict[str, Dataset] = {}
        self.marks: dict[str, str] = {}
        self.labels: dict[str, set[str]] | None = None
        """The labels of studies; None: an Orthanc without labels."""
        self.check_revisions = False
        """Whether it behaves as with Orthanc's CheckRevisions."""
        self.answers: dict[str, tuple[int, object]] = {}
        """Responses to "METHOD PATH" in place of the usual ones."""
        super().__init__(tls)

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

    def _patient_id(self, study: str) -> str:
        heads = self.heads.values()
        return next(str(each.PatientID) for each in heads if orthanc_id(each.PatientID, each.StudyInstanceUID) == study)

    def etag(self, path: str) -> str:
        """Return the ETag of the metadata at a path; empty where there is none."""
        mark = self.marks.get(path.removeprefix("/studies/").removesuffix("/metadata/4810"))
        return f'"0-{hashlib.md5(mark.encode()).hexdigest()}"' if mark is not None else ""

    def respond(self, method: str, path: str, headers: HTTPMessage, body: bytes) -> Response:
        status, found = self.answers.get(f"{method} {path}") or self._answer(
            method, path, body, headers.get("If-Match", "")
        )
        etag = self.etag(path)
        return status, found if isinstance(found, bytes) else json.dumps(found).encode(), {"ETag": etag} if etag else {}

    def _answer(self, method: str, path: str, body: bytes, if_match: str) -> tuple[int, object]:
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
            described = {
                "MainDicomTags": {"StudyInstanceUID": self.studies()[found[1]]},
                "PatientMainDicomTags": {"PatientID": self._patient_id(found[1])},
            }
            outdated = self.check_revisions and if_match != self.etag(path)
            return self._metadata(method, found[1], body, outdated) if found[2] else (200, described)
        return self._label(method, path)

    def _label(self, method: str, path: str) -> tuple[int, object]:
        found = re.fullmatch(r"/studies/([0-9a-f-]+)/labels(?:/([\w-]+))?", path)
        if found is None or self.labels is None:
            return 404, {}
        labels, label = self.labels.setdefault(found[1], set()), found[2]
        if label is None:
            return 200, sorted(labels)
        (labels.add if method == "PUT" else labels.discard)(label)
        return 200, {}

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
