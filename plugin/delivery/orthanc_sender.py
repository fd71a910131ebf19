"""Results into the Orthanc beside the node, and through it on to its modalities and peers. Knows no outbox."""

import json
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcome, Outgoing, Sent
from plugin.errors import ArchiveAway, PeerFailed
from plugin.orthanc.client import Answer, OrthancClient, WrongAnswer, is_orthanc_id
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings

_LOOK_EVERY_S = 0.2
_AWAY = (404, 408, 429, 502, 503, 504)
"""HTTP statuses that say nothing about the object."""


class OrthancSender:
    """Sends to Orthanc. To store there what is there already changes nothing, so that all may be done twice."""

    def __init__(self, destination: OrthancDestinationSettings, orthanc: OrthancSettings, timeout_s: float) -> None:
        self._destination = destination
        self._orthanc = orthanc
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """Its URL, with what it sends on to; it has no AE title of interest."""
        return Peer("", f"{self._orthanc.url}{self._further}")

    def send(self, objects: Sequence[Outgoing]) -> Generator[tuple[Outgoing, Outcome], None, None]:
        """Store each, then have each sent on. Raises PeerFailed."""
        client = OrthancClient(self._orthanc, patience_s=0)
        try:
            for each in objects:
                yield each, self._send(client, each)
        except ArchiveAway as exc:
            raise PeerFailed(str(exc).rstrip(".")) from exc
        finally:
            client.close()

    def echo(self) -> str:
        """Ask Orthanc, or have it ask the one that it sends on to. Raises PeerFailed."""
        client = OrthancClient(self._orthanc, patience_s=0)
        try:
            answer = self._echo(client)
        except ArchiveAway as exc:
            raise PeerFailed(str(exc).rstrip(".")) from exc
        finally:
            client.close()
        if answer.status == 200:
            return "it answers"
        raise PeerFailed(self._why(answer))

    def _echo(self, client: OrthancClient) -> Answer:
        if self._destination.modality:
            return client.ask("POST", f"{self._further}/echo", b"{}", self._timeout_s)
        return client.ask("GET", f"{self._further}/system", timeout_s=self._timeout_s)

    @property
    def _further(self) -> str:
        """The resource of what it sends on to, empty where that is nothing."""
        if self._destination.modality:
            return f"/modalities/{quote(self._destination.modality, safe='')}"
        return f"/peers/{quote(self._destination.peer, safe='')}" if self._destination.peer else ""

    def _send(self, client: OrthancClient, outgoing: Outgoing) -> Outcome:
        try:
            content = Path(outgoing.entry.path).read_bytes()
        except OSError as exc:
            return NotSent(f"{outgoing.entry.path} cannot be read ({exc.strerror})")
        answer = client.ask("POST", "/instances", content, self._timeout_s)
        if answer.status in _AWAY:
            raise PeerFailed(f"Orthanc answers HTTP {answer.status}; see orthanc.url, and whether it is well")
        if answer.status != 200:
            return NotSent(f"Orthanc answers HTTP {answer.status}; its log says why")
        stored = _document(answer)
        instance, status = str(stored.get("ID", "")), str(stored.get("Status", ""))
        if not is_orthanc_id(instance) or status not in ("Success", "AlreadyStored"):
            return NotSent("Orthanc did not store it; a filter of its own may refuse it")
        return self._send_on(client, instance) if self._further else Sent()

    def _send_on(self, client: OrthancClient, instance: str) -> Outcome:
        commits = self._destination.storage_commitment
        order = {"Resources": [instance], "Synchronous": True, **({"StorageCommitment": True} if commits else {})}
        answer = client.ask("POST", f"{self._further}/store", json.dumps(order).encode(), self._timeout_s)
        if answer.status != 200:
            if self._echo(client).status == 200:  # it is there, and does not want this object
                return NotSent(f"Orthanc was refused by {self._further} (HTTP {answer.status}); its log says why")
            raise PeerFailed(self._why(answer))
        if not commits:
            return Sent("sent on by Orthanc")
        return self._await_commitment(client, str(_document(answer).get("StorageCommitmentTransactionUID", "")))

    def _await_commitment(self, client: OrthancClient, transaction: str) -> Outcome:
        deadline = time.monotonic() + self._destination.commitment_timeout_s
        path = f"/storage-commitment/{quote(transaction, safe='')}"
        while True:
            report = _document(client.ask("GET", path, timeout_s=self._timeout_s))
            if report.get("Status") == "Success":
                return Sent("sent on by Orthanc, and committed to")
            if report.get("Status") == "Failure":
                return NotSent(f"it stored the object and does not commit to it ({_reasons(report)})")
            if time.monotonic() > deadline:
                return NotSent("it stored the object and did not report on commitment in time")
            time.sleep(_LOOK_EVERY_S)

    def _why(self, answer: Answer) -> str:
        kind = "DicomModalities" if self._destination.modality else "OrthancPeers"
        if answer.status == 404:
            return f"Orthanc does not know {self._further}; see its {kind}"
        return f"Orthanc cannot reach {self._further} (HTTP {answer.status}); its log says why"


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = answer.json()
    except WrongAnswer:
        return {}
    return found if isinstance(found, dict) else {}


def _reasons(report: dict[str, Any]) -> str:
    """PS3.3 C.14.1.1: failure reasons, as numbers alone."""
    failures = report.get("Failures")
    codes = [each.get("FailureReason") for each in failures if isinstance(each, dict)] if failures else []
    return ", ".join(f"0x{code:04X}" for code in codes if isinstance(code, int)) or "without a reason"
