"""Storage Commitment as SCP: statuses of requests, reports and where they go, and what survives a crash."""

import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from pipeline.atomic_write import write_file
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import EmbeddedArchive
from plugin.commitment.open_associations import OpenAssociations
from plugin.commitment.pending_requests import AddResult, PendingRequests, count_pending
from plugin.commitment.provider import CommitmentProvider
from plugin.commitment.report_sender import CommitmentReportSender, find_receiver
from plugin.commitment.requester import EventReportService
from plugin.commitment.verify import make_report
from plugin.dimse.association import EventHandler
from plugin.dimse.commitment_messages import (
    CommitmentRequest,
    FailedReference,
    InvalidCommitmentMessage,
    Reference,
    decode_request,
)
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.listener.c_store_handler import StoreEvents
from plugin.listener.listener import Listener, start_listener
from plugin.settings.sections import Settings
from tests.support.certificates import Authority
from tests.support.durable_disk import DurableDisk
from tests.support.node import MR_IMAGE_STORAGE, make_instance, new_study_uid, wait_until

INSTANCE = "1.2.840.10008.1.20.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


class CommittingNode:
    """A listener with Storage Commitment as SCP, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.archive = EmbeddedArchive(folder / "archive", 0)
        self.archive.open()
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        self.listener: Listener | None = None
        self.associations: list[Any] = []
        """The accepted associations, oldest first."""

    def start(self, listener: dict[str, object] | None = None, **delivery: object) -> "CommittingNode":
        quick = {"retry_first_s": 0.05, "retry_longest_s": 0.1, "timeout_s": 5, **delivery}
        settings = Settings(listener={"port": 0, **(listener or {})}, delivery=quick)
        service = CommitmentProvider(settings, self.archive)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=service.run, args=(self.stop,))
        self.thread.start()
        handlers = [
            *service.handlers,
            EventHandler(evt.EVT_ACCEPTED, lambda event: self.associations.append(event.assoc)),
        ]
        self.listener = start_listener(
            settings.listener, self.archive, StoreEvents(lambda *_: None), commitment=handlers
        )
        return self

    def end(self) -> None:
        self.stop.set()
        if self.thread is not None and self.listener is not None:
            self.listener.stop(2)
            self.thread.join()
            self.thread = None

    @property
    def port(self) -> int:
        assert self.listener is not None
        return self.listener.address.port

    @property
    def pending(self) -> int:
        return count_pending(self.archive.data_dir)


class Modality:
    """A sender that accepts reports: on its own port, or on the association of its request."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.statuses: list[int] = []
        """Statuses of the next responses to reports."""
        self._server: Any = None
        self.port = 0

    def listen(self, tls: ssl.SSLContext | None = None) -> "Modality":
        ae = AE("MODALITY")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        where = ("127.0.0.1", self.port)
        self._server = ae.start_server(
            where, block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.on_report)], ssl_context=tls
        )
        self.port = int(self._server.server_address[1])
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def on_report(self, event: Any) -> tuple[int, None]:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        self.reports.append((event.event_type, event.event_information))
        return status, None

    @contextmanager
    def association(self, port: int) -> Iterator[Any]:
        ae = ApplicationEntity("MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        ae.add_requested_context(MR_IMAGE_STORAGE, ExplicitVRLittleEndian)
        peer = ae.associate(
            "127.0.0.1", port, ae_title="GLIONODE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.on_report)]
        )
        assert peer.is_established
        with closing(EventReportService(peer)):
            yield peer
        peer.release()

    def request_commitment(self, port: int, *references: tuple[str, str], transaction: str = "") -> int:
        with self.association(port) as peer:
            return request_commitment(peer, *references, transaction=transaction)


def action_information(*references: tuple[str, str], transaction: str = "") -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction or generate_uid()
    information.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        information.ReferencedSOPSequence.append(item)
    return information


def request_commitment(peer: Any, *references: tuple[str, str], transaction: str = "") -> int:
    information = action_information(*references, transaction=transaction)
    response, _ = peer.send_n_action(information, 1, StorageCommitmentPushModel, INSTANCE)
    return int(response.Status)


def listed(report: Dataset, sequence: str) -> dict[str, int]:
    return {str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", 0)) for item in report.get(sequence, [])}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[CommittingNode]:
    made = CommittingNode(tmp_path / "data")
    yield made
    made.end()


@pytest.fixture
def modality() -> Iterator[Modality]:
    made = Modality()
    yield made
    made.stop()


def settings_with(modality: Modality) -> dict[str, object]:
    """Return settings of a listener with the address of the modality."""
    return {"senders": [{"ae_title": "MODALITY", "host": "127.0.0.1", "port": modality.port}]}


def store(peer: Any, count: int = 2) -> list[str]:
    uids = []
    study = new_study_uid()
    for _ in range(count):
        instance = make_instance(study)
        assert peer.send_c_store(instance).Status == 0x0000
        uids.append(str(instance.SOPInstanceUID))
    return uids


def test_stored_instances_are_committed_and_others_fail_with_a_reason(node: CommittingNode, modality: Modality) -> None:
    node.start(settings_with(modality.listen()))
    with modality.association(node.port) as peer:
        first, second = store(peer)
    assert (
        modality.request_commitment(
            node.port, (MR_IMAGE_STORAGE, first), (MR_IMAGE_STORAGE, second), transaction="1.2.3"
        )
        == 0
    )
    wait_until(lambda: len(modality.reports) == 1, "it is reported")
    event_type, report = modality.reports[0]
    assert (event_type, report.TransactionUID) == (1, "1.2.3")
    assert listed(report, "ReferencedSOPSequence") == {first: 0, second: 0}
    wanted = [(MR_IMAGE_STORAGE, first), (CT_IMAGE_STORAGE, second), (MR_IMAGE_STORAGE, "1.2.9")]
    assert modality.request_commitment(node.port, *wanted) == 0
    wait_until(lambda: len(modality.reports) == 2, "it is reported")
    event_type, report = modality.reports[1]
    assert event_type == 2
    assert listed(report, "ReferencedSOPSequence") == {first: 0}
    assert listed(report, "FailedSOPSequence") == {second: 0x0119, "1.2.9": 0x0112}
    wait_until(lambda: node.pending == 0, "nothing is left")


def test_a_sender_without_address_gets_its_report_on_the_association(node: CommittingNode, modality: Modality) -> None:
    node.start()
    with modality.association(node.port) as peer:
        for number in range(3):
            (uid,) = store(peer, 1)
            assert request_commitment(peer, (MR_IMAGE_STORAGE, uid)) == 0
            assert store(peer, 3), "other messages are processed meanwhile"
            wait_until(lambda wanted=number + 1: len(modality.reports) == wanted, "it is reported")
            assert listed(modality.reports[-1][1], "ReferencedSOPSequence") == {uid: 0}
    wait_until(lambda: node.pending == 0, "nothing is left")


def test_a_report_is_not_interleaved_with_other_messages(node: CommittingNode, modality: Modality) -> None:
    node.start()
    many = [(MR_IMAGE_STORAGE, generate_uid()) for _ in range(2000)]
    senders: list[int] = []
    pause = threading.Event()
    with modality.association(node.port) as peer:
        served = node.associations[-1]
        send = served.dul.send_pdu

        def send_slowly(pdata: Any) -> None:
            senders.append(threading.get_ident())
            pause.wait(0.005)  # lets others send between the parts of a message
            send(pdata)

        served.dul.send_pdu = send_slowly
        assert request_commitment(peer, *many) == 0
        while not modality.reports:
            store(peer, 1)
    reporter = next(each for each, parts in Counter(senders).items() if parts > 10 and each != senders[0])
    assert [each for each, _ in groupby(senders)].count(reporter) == 1, "its parts were sent one after the other"
    assert len(modality.reports[0][1].FailedSOPSequence) == 2000


def test_a_report_is_given_up_when_the_association_ends(node: CommittingNode, modality: Modality) -> None:
    node.start()
    modality.statuses = [0x0110] * 1000
    with modality.association(node.port) as peer:
        assert request_commitment(peer, (MR_IMAGE_STORAGE, "1.2.9")) == 0
        wait_until(lambda: len(modality.reports) >= 3, "its report is sent again after each failure")
        assert node.pending == 1
    wait_until(lambda: node.pending == 0, "it is removed")


def test_a_report_to_an_unreachable_sender_is_retried(node: CommittingNode, modality: Modality) -> None:
    modality.listen().stop()
    node.start(settings_with(modality))
    assert modality.request_commitment(node.port, (MR_IMAGE_STORAGE, "1.2.9")) == 0
    assert modality.request_commitment(node.port, (MR_IMAGE_STORAGE, "1.2.8")) == 0
    assert node.pending == 2
    modality.statuses = [0x0110]
    modality.listen()
    wait_until(lambda: node.pending == 0, "both are reported")
    assert len(modality.reports) == 3, "one of them twice, after a failure status"


def test_a_report_over_tls_shows_the_certificate_of_the_listener(
    node: CommittingNode, modality: Modality, tmp_path: Path, program: Callable[[str], str]
) -> None:
    authority = Authority(program, tmp_path / "authority")
    own, theirs = authority.sign("node"), authority.sign("modality")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(theirs.certificate, theirs.key)
    tls.load_verify_locations(authority.certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    modality.listen(tls)
    listener = Settings(
        listener={
            "tls_certificate": own.certificate,
            "tls_key": own.key,
            "tls_client_ca": authority.certificate,
            "senders": [{"ae_title": "MODALITY", "host": "127.0.0.1", "port": modality.port, "tls": True}],
        }
    )
    receiver = find_receiver(listener, "MODALITY", "127.0.0.1")
    assert receiver is not None
    requests, wake = PendingRequests(node.archive.data_dir), threading.Event()
    requests.add("MODALITY", "127.0.0.1", CommitmentRequest("1.2.3", (Reference("1.2", "1.3"),)))
    reporter = CommitmentReportSender(listener, node.archive, requests, OpenAssociations(wake), wake)
    stop = threading.Event()
    thread = threading.Thread(target=reporter.run, args=(stop,))
    thread.start()
    wait_until(lambda: node.pending == 0, "it is reported")
    stop.set()
    thread.join()
    assert [event_type for event_type, _ in modality.reports] == [2]


@pytest.mark.parametrize(
    ("ae_title", "address", "port"),
    [("MR", "192.0.2.1", 1), ("MR", "198.51.100.1", 2), ("CT", "192.0.2.1", None), ("PACS", "192.0.2.1", 3)],
)
def test_the_settings_say_where_reports_go(ae_title: str, address: str, port: int | None) -> None:
    settings = Settings(
        listener={
            "senders": [
                {"ae_title": "MR", "networks": ["192.0.2.0/24"], "host": "one", "port": 1},
                {"ae_title": "MR", "networks": ["198.51.100.0/24"], "host": "two", "port": 2},
                {"ae_title": "CT"},
                {"ae_title": "PACS"},
            ]
        },
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": "three", "port": 3}],
    )
    receiver = find_receiver(settings, ae_title, address)
    assert (receiver.port if receiver is not None else None) == port


def test_a_request_survives_a_crash(node: CommittingNode, modality: Modality) -> None:
    modality.listen().stop()
    node.start(settings_with(modality))
    with modality.association(node.port) as peer:
        (uid,) = store(peer, 1)
        assert request_commitment(peer, (MR_IMAGE_STORAGE, uid)) == 0
    node.end()
    (node.archive.data_dir / "commitments" / ".incomplete.json.part").write_text("{")
    (node.archive.data_dir / "commitments" / "unreadable.json").write_text("{")
    modality.listen()
    node.start(settings_with(modality))
    wait_until(lambda: node.pending == 0, "it is reported")
    ((event_type, report),) = modality.reports
    assert (event_type, listed(report, "ReferencedSOPSequence")) == (1, {uid: 0})


def test_a_report_is_given_up_after_the_set_time(node: CommittingNode, modality: Modality) -> None:
    modality.listen().stop()
    node.start(settings_with(modality), give_up_after_h=1e-4)
    assert modality.request_commitment(node.port, (MR_IMAGE_STORAGE, "1.2.9")) == 0
    wait_until(lambda: node.pending == 0, "it is given up")
    assert modality.reports == []


@pytest.mark.parametrize(
    ("action_type", "instance", "information", "status"),
    [
        (2, INSTANCE, action_information((MR_IMAGE_STORAGE, "1.2")), 0x0123),
        (1, "1.2.3", action_information((MR_IMAGE_STORAGE, "1.2")), 0x0112),
        (1, INSTANCE, None, 0x0115),
        (1, INSTANCE, action_information(), 0x0115),
        (1, INSTANCE, action_information(("", "1.2")), 0x0115),
    ],
)
def test_an_invalid_request_gets_a_failure_status(
    node: CommittingNode, modality: Modality, action_type: int, instance: str, information: Any, status: int
) -> None:
    node.start()
    with modality.association(node.port) as peer:
        response, _ = peer.send_n_action(information, action_type, StorageCommitmentPushModel, instance)
        assert response.Status == status
        assert request_commitment(peer, (MR_IMAGE_STORAGE, "1.2")) == 0, "the association goes on"
    assert node.pending <= 1


def test_a_transaction_uid_cannot_be_reused_for_other_instances(node: CommittingNode, modality: Modality) -> None:
    modality.listen().stop()
    node.start(settings_with(modality))
    for instances, status in ((("1.2", "1.3"), 0), (("1.3", "1.2"), 0), (("1.2",), 0x0115)):
        references = [(MR_IMAGE_STORAGE, each) for each in instances]
        assert modality.request_commitment(node.port, *references, transaction="1.2.3") == status
    assert node.pending == 1


def test_pending_requests_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = PendingRequests(tmp_path)
    request = CommitmentRequest("1", tuple(Reference("1.2", f"1.{number}") for number in range(5)))
    monkeypatch.setattr("plugin.commitment.pending_requests._MOST_PENDING", 2)
    kept = [requests.add("AE", "", replace(request, transaction_uid=uid)) for uid in ("1", "2", "3", "1")]
    assert kept == [AddResult.PENDING, AddResult.PENDING, AddResult.TOO_MANY, AddResult.PENDING]
    monkeypatch.setattr("plugin.commitment.pending_requests._MOST_PENDING", 9)
    monkeypatch.setattr("plugin.commitment.pending_requests._MOST_REFERENCES", 14)
    assert requests.add("AE", "", replace(request, transaction_uid="3")) is AddResult.TOO_MANY
    requests.remove(requests.all()[0].name)
    assert requests.add("AE", "", replace(request, transaction_uid="3")) is AddResult.PENDING
    assert [each.transaction_uid for each in PendingRequests(tmp_path).all()] == ["2", "3"]


def test_a_pending_request_survives_a_power_cut(tmp_path: Path, durable_disk: Callable[[Path], DurableDisk]) -> None:
    disk = durable_disk(tmp_path)
    requests = PendingRequests(tmp_path)
    requests.add("AE", "", CommitmentRequest("1", (Reference("1.2", "1.3"),)))
    assert list(disk.after_power_cut()) == [f"commitments/{requests.all()[0].name}.json"]


def test_an_instance_is_committed_when_it_survives_a_power_cut(
    tmp_path: Path, durable_disk: Callable[[Path], DurableDisk]
) -> None:
    archive = EmbeddedArchive(tmp_path / "archive", 0)
    archive.open()
    disk = durable_disk(tmp_path)
    series = tmp_path / "archive" / "1.2" / "1.2.1"
    series.mkdir(parents=True)
    write_file(series / "1.2.1.1.dcm", encode_file_meta(MR_IMAGE_STORAGE, "1.2.1.1", ExplicitVRLittleEndian))
    assert disk.after_power_cut() == {}, "as where its C-STORE response was not sent yet"
    assert make_report(archive, "1", [Reference(MR_IMAGE_STORAGE, "1.2.1.1")]).failed == ()
    assert list(disk.after_power_cut()) == ["archive/1.2/1.2.1/1.2.1.1.dcm"]


def test_a_purged_instance_is_not_committed(node: CommittingNode, modality: Modality) -> None:
    node.start()
    with modality.association(node.port) as peer:
        kept, purged = store(peer, 2)
    references = [Reference(MR_IMAGE_STORAGE, kept), Reference(MR_IMAGE_STORAGE, purged)]
    assert make_report(node.archive, "1", references).failed == ()
    (study,) = node.archive.studies()
    next(path for path in node.archive.files(study) if path.stem == purged).unlink()
    report = make_report(node.archive, "1", references)
    assert (report.committed, report.failed) == ((references[0],), (FailedReference(references[1], 0x0112),))


INVALID_SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x1199, b"SQ", 0, 8) + b"nonsense"
ENDLESS = struct.pack("<HHLHHL", 0x0008, 0x1199, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * 20_000


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("encoded", [b"", b"\xff" * 100, INVALID_SEQUENCE, ENDLESS], ids=["0", "ff", "sq", "deep"])
def test_an_encoded_request_that_is_invalid_is_refused_and_not_quoted(
    encoded: bytes, syntax: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidCommitmentMessage) as raised:
        decode_request(BytesIO(encoded), syntax)
    assert "nonsense" not in str(raised.value)
    assert "nonsense" not in caplog.text
