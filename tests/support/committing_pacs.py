"""A PACS for tests of Storage Commitment as SCU: counts what it stores, and commits as a test says."""

import threading
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from plugin.dimse.pynetdicom_internals import ApplicationEntity
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

INSTANCE = "1.2.840.10008.1.20.1.1"


class CommittingPacs:
    """Reports on an association of its own to the port `report_to`, or (None) on that of the request."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.requests: list[Dataset] = []
        self.statuses: list[int] = []
        """Statuses of the next responses to requests."""
        self.failing: dict[str, int] = {}
        """SOP Instance UIDs that are not committed, with the reason."""
        self.report_to: int | None = None
        self.reports = True
        """Whether it reports at all."""
        self.report_statuses: list[int | None] = []
        """Statuses of the responses to its reports."""
        self.on_store: Callable[[Any], int] = lambda event: 0x0000
        ae = AE("PACS")
        for sop_class in OUTPUT_CLASSES:
            ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_DIMSE_SENT, self._on_sent),
        ]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])
        self._reporting: list[threading.Thread] = []

    def stop(self) -> None:
        for thread in self._reporting:
            thread.join()
        self._server.shutdown()

    def destination(self, **more: object) -> dict[str, object]:
        where = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}
        return {**where, "storage_commitment": True, **more}

    def _on_store(self, event: Any) -> int:
        status = self.on_store(event)
        if status == 0x0000:
            self.received.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def _on_action(self, event: Any) -> tuple[int, None]:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == 0x0000:
            self.requests.append(event.action_information)
        return status, None

    def _on_sent(self, event: Any) -> None:
        if type(event.message).__name__ == "N_ACTION_RSP" and event.message.command_set.Status == 0 and self.reports:
            thread = threading.Thread(target=self._report_on_latest, args=(event.assoc,))
            self._reporting.append(thread)
            thread.start()

    def _report_on_latest(self, association: Any) -> None:
        information = self.make_report(self.requests[-1])
        self.send_report(information, None if self.report_to else association)

    def make_report(self, request: Dataset) -> Dataset:
        """Return the Event Information of a report on a request, by what fails now."""
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        committed, failed = [], []
        for item in request.ReferencedSOPSequence:
            if str(item.ReferencedSOPInstanceUID) in self.failing:
                item.FailureReason = self.failing[str(item.ReferencedSOPInstanceUID)]
                failed.append(item)
            else:
                committed.append(item)
        if committed:
            report.ReferencedSOPSequence = committed
        if failed:
            report.FailedSOPSequence = failed
        return report

    def send_report(self, information: Dataset, association: Any = None, event_type: int | None = None) -> None:
        """Send a report, on an association of its own unless one is given."""
        if event_type is None:
            event_type = 2 if "FailedSOPSequence" in information else 1
        own = association is None
        if own:
            ae = ApplicationEntity("PACS")
            ae.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = ae.associate("127.0.0.1", self.report_to, ae_title="GLIONODE", ext_neg=[role])
            assert association.is_established
        response, _ = association.send_n_event_report(information, event_type, StorageCommitmentPushModel, INSTANCE)
        if own:
            association.release()
        self.report_statuses.append(getattr(response, "Status", None))
