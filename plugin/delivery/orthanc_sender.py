"""Send objects to the Orthanc beside the node, and through it to its modalities and peers."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcome, Outcomes, Outgoing, Sent
from plugin.errors import ArchiveUnavailable, PeerFailed
from plugin.http.client import RequestFailed, Response
from plugin.orthanc.client import OrthancClient, is_orthanc_id
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings

_POLL_EVERY_S = 0.2
_UNAVAILABLE = (404, 408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about the object."""


class OrthancSender:
    """Sends to Orthanc. Storing an object that is there already changes nothing, so a retry does no harm."""

    def __init__(self, destination: OrthancDestinationSettings, orthanc: OrthancSettings, timeout_s: float) -> None:
        self._destination = destination
        self._orthanc = orthanc
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """The URL of Orthanc, with the modality or peer behind it."""
        return Peer("", f"{self._orthanc.url}{self._target}")

    def send(self, objects: Sequence[Outgoing]) -> Outcomes:
        """Store each object in Orthanc, and have it forwarded where a modality or peer is set. Raises PeerFailed."""
        with self._connect() as client:
            for each in objects:
                yield each, self._store(client, each)

    def echo(self) -> str:
        """Check that Orthanc responds, or that the modality or peer behind it does. Raises PeerFailed."""
        with self._connect() as client:
            answer = self._echo(client)
        if answer.status == 200:
            return "it answers"
        raise PeerFailed(self._failure(answer))

    @contextmanager
    def _connect(self) -> Iterator[OrthancClient]:
        """Yield a client of Orthanc. Raises PeerFailed where Orthanc is not available."""
        try:
            with closing(OrthancClient(self._orthanc, patience_s=0)) as client:
                yield client
        except ArchiveUnavailable as exc:
            raise PeerFailed(str(exc).rstrip(".")) from exc

    def _echo(self, client: OrthancClient) -> Response:
        if self._destination.modality:
            return client.request("POST", f"{self._target}/echo", b"{}", self._timeout_s)
        return client.request("GET", f"{self._target}/system", timeout_s=self._timeout_s)

    @property
    def _target(self) -> str:
        """The path of the modality or peer that Orthanc forwards to; empty if there is none."""
        if self._destination.modality:
            return f"/modalities/{quote(self._destination.modality, safe='')}"
        return f"/peers/{quote(self._destination.peer, safe='')}" if self._destination.peer else ""

    def _store(self, client: OrthancClient, outgoing: Outgoing) -> Outcome:
        try:
            content = Path(outgoing.entry.path).read_bytes()
        except OSError as exc:
            return NotSent(f"the file {outgoing.entry.path} cannot be read ({exc.strerror})")
        answer = client.request("POST", "/instances", content, self._timeout_s)
        if answer.status in _UNAVAILABLE:
            raise PeerFailed(f"Orthanc responded with HTTP {answer.status}; check orthanc.url, and Orthanc")
        if answer.status != 200:
            return NotSent(f"Orthanc responded with HTTP {answer.status}; see its log")
        stored = _json_object(answer)
        instance, status = str(stored.get("ID", "")), str(stored.get("Status", ""))
        if not is_orthanc_id(instance) or status not in ("Success", "AlreadyStored"):
            return NotSent("Orthanc did not store the object; a filter in Orthanc may refuse it")
        return self._forward(client, instance) if self._target else Sent()

    def _forward(self, client: OrthancClient, instance: str) -> Outcome:
        commits = self._destination.storage_commitment
        command = {"Resources": [instance], "Synchronous": True, **({"StorageCommitment": True} if commits else {})}
        answer = client.request("POST", f"{self._target}/store", json.dumps(command).encode(), self._timeout_s)
        if answer.status != 200:
            if self._echo(client).status == 200:  # it is reachable, and refused this object
                return NotSent(
                    f"{self._target} refused the object from Orthanc (HTTP {answer.status}); see Orthanc's log"
                )
            raise PeerFailed(self._failure(answer))
        if not commits:
            return Sent("sent on by Orthanc")
        return self._await_commitment(client, str(_json_object(answer).get("StorageCommitmentTransactionUID", "")))

    def _await_commitment(self, client: OrthancClient, transaction: str) -> Outcome:
        deadline = time.monotonic() + self._destination.commitment_timeout_s
        path = f"/storage-commitment/{quote(transaction, safe='')}"
        while True:
            report = _json_object(client.request("GET", path, timeout_s=self._timeout_s))
            if report.get("Status") == "Success":
                return Sent("sent on by Orthanc, and committed to")
            if report.get("Status") == "Failure":
                return NotSent(f"the destination stored the object and does not commit to it ({_reasons(report)})")
            if time.monotonic() > deadline:
                return NotSent("the destination stored the object and did not report on commitment in time")
            time.sleep(_POLL_EVERY_S)

    def _failure(self, answer: Response) -> str:
        kind = "DicomModalities" if self._destination.modality else "OrthancPeers"
        if answer.status == 404:
            return f"Orthanc does not know {self._target}; check its {kind}"
        return f"Orthanc cannot reach {self._target} (HTTP {answer.status}); see its log"


def _json_object(answer: Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except RequestFailed:
        return {}
    return found if isinstance(found, dict) else {}


def _reasons(report: dict[str, Any]) -> str:
    """List the failure reasons (PS3.3 C.14.1.1) as numbers."""
    failures = report.get("Failures")
    codes = [each.get("FailureReason") for each in failures if isinstance(each, dict)] if failures else []
    return ", ".join(f"0x{code:04X}" for code in codes if isinstance(code, int)) or "without a reason"
