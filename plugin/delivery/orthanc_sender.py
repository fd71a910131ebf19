"""Send objects to the Orthanc beside the node, and through it to its modalities and peers."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plugin.database.audit_log import Peer
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outcomes, Outgoing, Sent
from plugin.dimse.response_status import NotCommitted, not_committed
from plugin.errors import ArchiveUnavailable, NotInArchive, PeerFailed
from plugin.http.client import RequestFailed, Response
from plugin.orthanc.client import OrthancClient, is_orthanc_id
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings

_POLL_EVERY_S = 0.2
_UNAVAILABLE = (404, 429)
"""HTTP statuses that say nothing about the object."""
_FAULTS = (408, 502, 503, 504)
"""HTTP statuses of an Orthanc that is away, and of a proxy whose Orthanc broke off at an object."""


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
                try:
                    outcome = self._store(client, each)
                except ArchiveUnavailable as exc:
                    if self._echo(client).status != 200:  # raises ArchiveUnavailable where Orthanc is away
                        raise
                    raise BrokenOff(f"{str(exc).rstrip('.')}, and answers otherwise", (each,)) from exc
                yield each, outcome

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
        except (ArchiveUnavailable, NotInArchive) as exc:
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
        if answer.status in _FAULTS:
            raise ArchiveUnavailable(f"Orthanc responded with HTTP {answer.status} to an object.")
        if answer.status != 200:
            return NotSent(f"Orthanc responded with HTTP {answer.status}; see its log")
        stored = _json_object(answer)
        instance, status = str(stored.get("ID", "")), str(stored.get("Status", ""))
        if not is_orthanc_id(instance) or status not in ("Success", "AlreadyStored"):
            why = "a filter in Orthanc may refuse it" if stored else "or something else responds at orthanc.url"
            return NotSent(f"Orthanc did not store the object; {why}")
        if not self._holds(client, instance, outgoing.entry.sop_instance_uid):
            return NotSent(
                "Orthanc says that it stored the object and does not find it by its UID; a script or plugin of Orthanc "
                "may change or remove it"
            )
        return self._forward(client, instance, outgoing.entry.sop_instance_uid) if self._target else Sent()

    def _holds(self, client: OrthancClient, instance: str, sop_instance_uid: str) -> bool:
        """Return whether Orthanc's instance is the one of a UID."""
        found = client.post_json("/tools/lookup", sop_instance_uid.encode())
        return isinstance(found, list) and instance in [each.get("ID") for each in found if isinstance(each, dict)]

    def _forward(self, client: OrthancClient, instance: str, uid: str) -> Outcome:
        commits = self._destination.storage_commitment
        command = {"Resources": [instance], "Synchronous": True, **({"StorageCommitment": True} if commits else {})}
        answer = client.request("POST", f"{self._target}/store", json.dumps(command).encode(), self._timeout_s)
        if answer.status != 200:
            if self._echo(client).status == 200:  # it is reachable, and refused this object
                return NotSent(
                    f"{self._target} refused the object from Orthanc (HTTP {answer.status}); see Orthanc's log"
                )
            raise PeerFailed(self._failure(answer))
        job = _json_object(answer)
        failed, sent = job.get("FailedInstancesCount", 0), job.get("InstancesCount", 1)
        if not isinstance(_json(answer), dict) or failed or not sent:
            return NotSent(f"Orthanc's response does not say that it sent the object to {self._target}; see its log")
        if not commits:
            return Sent("sent on by Orthanc")
        return self._await_commitment(client, str(job.get("StorageCommitmentTransactionUID", "")), uid)

    def _await_commitment(self, client: OrthancClient, transaction: str, uid: str) -> Outcome:
        deadline = time.monotonic() + self._destination.commitment_timeout_s
        path = f"/storage-commitment/{quote(transaction, safe='')}"
        while True:
            report = _json_object(client.request("GET", path, timeout_s=self._timeout_s))
            committed = report.get("Success")
            named = [each.get("SOPInstanceUID") for each in committed or () if isinstance(each, dict)]
            if report.get("Status") == "Success" and (not committed or uid in named):  # older ones name none
                return Sent("sent on by Orthanc, and committed to")
            if report.get("Status") == "Failure":
                final = any(not_committed(code)[0] is NotCommitted.GIVE_UP for code in _codes(report))
                return NotSent(
                    f"the destination stored the object and does not commit to it ({_reasons(report)})", final=final
                )
            if time.monotonic() > deadline:
                return NotSent("the destination stored the object and did not report on commitment in time")
            time.sleep(_POLL_EVERY_S)

    def _failure(self, answer: Response) -> str:
        kind = "DicomModalities" if self._destination.modality else "OrthancPeers"
        if answer.status == 404:
            return f"Orthanc does not know {self._target}; check its {kind}"
        return f"Orthanc cannot reach {self._target} (HTTP {answer.status}); see its log"


def _json(answer: Response) -> Any:
    try:
        return answer.json()
    except RequestFailed:
        return None


def _json_object(answer: Response) -> dict[str, Any]:
    found = _json(answer)
    return found if isinstance(found, dict) else {}


def _codes(report: dict[str, Any]) -> list[int]:
    """Return the failure reasons (PS3.3 C.14.1.1) of a report."""
    failures = report.get("Failures")
    codes = [each.get("FailureReason") for each in failures if isinstance(each, dict)] if failures else []
    return [code for code in codes if isinstance(code, int)]


def _reasons(report: dict[str, Any]) -> str:
    return (
        ", ".join(
            f"0x{code:04X}{f': {meaning}' if (meaning := not_committed(code)[1]) else ''}" for code in _codes(report)
        )
        or "without a reason"
    )
