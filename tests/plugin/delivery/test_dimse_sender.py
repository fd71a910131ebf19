"""Sending to DICOM peers: transfer syntaxes, refused classes, and what each status of a response leads to."""

import hashlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from plugin.database.pool import Database
from plugin.delivery.deliverer import echo
from plugin.delivery.dimse_sender import DimseSender
from plugin.delivery.produced_classes import produced_classes
from plugin.delivery.sender import NotSent, Outcome, Outgoing, Sent
from plugin.dimse.association import PeerAddress, send_c_echo
from plugin.dimse.response_status import Consequence, NotCommitted, not_committed, store_meaning
from plugin.errors import PeerFailed
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import OutputsSettings
from tests.support.delivery import PutObject, delivering, put_object
from tests.support.node import query, run, wait_until, write_outgoing
from tests.support.programs import free_port, storescp

MR = "1.2.840.10008.5.1.4.1.1.4"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(autouse=True)
def restricted_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers accept only the SOP classes that they list; a listener of another test lifts that in its process."""
    monkeypatch.setattr("pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE", False)


class Peer:
    """A DICOM peer that takes `classes` in `syntaxes`, answers with `status`, and lists `known` when it is asked."""

    def __init__(self, classes: Sequence[str], syntaxes: Sequence[str], answers_queries: bool = True) -> None:
        self.stored: dict[str, tuple[str, Dataset]] = {}
        """Transfer syntax and data set by SOP instance UID."""
        self.status = 0x0000
        self.known: set[str] = set()
        self.queries: list[Dataset] = []
        self.find_status = 0x0000
        ae = AE("PACS")
        ae.add_supported_context(Verification)
        for each in classes:
            ae.add_supported_context(each, [UID(syntax) for syntax in syntaxes])
        if answers_queries:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self.server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def _store(self, event: Any) -> int:
        if self.status == 0x0000:
            dataset = event.dataset
            self.stored[str(dataset.SOPInstanceUID)] = (str(event.context.transfer_syntax), dataset)
        return self.status

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.queries.append(event.identifier)
        for uid in sorted(self.known):
            item = Dataset()
            item.SOPInstanceUID = uid
            yield 0xFF00, item
        yield self.find_status, None

    def destination(self, **keys: object) -> DestinationSettings:
        port = self.server.server_address[1]
        where = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        return DestinationSettings.model_validate({**where, **keys})


@contextmanager
def peer(
    *classes: str, syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian), finds: bool = True
) -> Iterator[Peer]:
    made = Peer(classes, syntaxes, finds)
    try:
        yield made
    finally:
        made.server.shutdown()


def sent(destination: DestinationSettings, objects: Sequence[Outgoing]) -> list[Outcome]:
    """Send objects; return their outcomes in the order of the objects."""
    found = {
        each.entry.sop_instance_uid: outcome for each, outcome in DimseSender(destination, "NODE", 5).send(objects)
    }
    return [found[each.entry.sop_instance_uid] for each in objects]


@pytest.fixture
def objects(tmp_path: Path) -> list[Outgoing]:
    """Return two objects of a study, as the outbox has them."""
    return write_outgoing(tmp_path / "results", 2)


@pytest.fixture
def put(database: Database, tmp_path: Path) -> PutObject:
    """Return a function that puts a small object into the outbox for a destination and returns its UID."""
    return partial(put_object, database, tmp_path)


@pytest.mark.parametrize("syntaxes", [[ImplicitVRLittleEndian], [ExplicitVRLittleEndian]])
def test_a_peer_gets_objects_in_the_one_syntax_that_it_takes(syntaxes: list[str], objects: list[Outgoing]) -> None:
    before = [hashlib.sha256(Path(each.entry.path).read_bytes()).digest() for each in objects]
    with peer(MR, syntaxes=syntaxes) as pacs:
        assert sent(pacs.destination(), objects) == [Sent(), Sent()]
    for each, digest in zip(objects, before, strict=True):
        syntax, dataset = pacs.stored[each.entry.sop_instance_uid]
        assert syntax == syntaxes[0]
        assert dataset.to_json_dict() == dcmread(each.entry.path).to_json_dict()
        assert hashlib.sha256(Path(each.entry.path).read_bytes()).digest() == digest, "the file is not changed"


def test_dcmtk_gets_objects_where_it_takes_implicit_vr_alone(
    objects: list[Outgoing], program: Callable[[str], str], tmp_path: Path
) -> None:
    port = free_port()
    destination = DestinationSettings(name="pacs", ae_title="DCMTK", host="127.0.0.1", port=port)
    with storescp(program("storescp"), tmp_path / "received", port, "+xi"):
        assert sent(destination, objects) == [Sent(), Sent()]
        found = echo(destination, "NODE", sop_class_uids=[MR])
    assert [each.transfer_syntax_uids for each in found.classes] == [(ImplicitVRLittleEndian,)]
    received = {each.SOPInstanceUID: each for each in map(dcmread, (tmp_path / "received").iterdir())}
    for each in objects:
        dataset = received[each.entry.sop_instance_uid]
        assert dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert dataset.to_json_dict() == dcmread(each.entry.path).to_json_dict()


def test_a_peer_that_takes_both_gets_the_syntax_of_the_file(objects: list[Outgoing]) -> None:
    with peer(MR) as pacs:
        sent(pacs.destination(), objects)
    assert {syntax for syntax, _ in pacs.stored.values()} == {ExplicitVRLittleEndian}


def test_more_classes_than_one_association_can_propose_are_sent_over_several(objects: list[Outgoing]) -> None:
    many = [
        Outgoing(objects[0].entry, f"1.2.840.10008.5.1.4.1.1.66.{number}", ExplicitVRLittleEndian)
        for number in range(200, 300)
    ]
    with peer(MR) as pacs:
        outcomes = [outcome for _, outcome in DimseSender(pacs.destination(), "NODE", 5).send([*many, objects[1]])]
    assert [type(each) for each in outcomes] == [NotSent] * 100 + [Sent]


def test_a_refused_class_is_named_and_others_go_on(database: Database, put: PutObject) -> None:
    with peer(SR) as pacs:
        refused, taken = put(pacs.destination(), SEG), put(pacs.destination(), SR)
        with delivering(database, pacs.destination()):
            wait_until(lambda: taken in pacs.stored, "the report is sent")
            wait_until(lambda: query(database, "SELECT 1 FROM glionode_outbox WHERE state = 'failed'"), "it failed")
    ((error,),) = query(database, "SELECT last_error FROM glionode_outbox WHERE sop_instance_uid = %s", refused)
    assert f"the class Segmentation Storage ({SEG})" in error
    assert "objects of other classes are sent meanwhile" in error


def test_a_peer_that_takes_none_of_the_classes_is_told_from_one_that_is_away(objects: list[Outgoing]) -> None:
    with peer(SEG) as pacs:
        for outcome in sent(pacs.destination(), objects):
            assert isinstance(outcome, NotSent)
            assert "the class MR Image Storage" in outcome.reason


def test_a_peer_that_takes_a_syntax_that_files_cannot_be_converted_to(objects: list[Outgoing]) -> None:
    with peer(MR, syntaxes=[DeflatedExplicitVRLittleEndian]) as pacs:
        (first, _) = sent(pacs.destination(), objects)
    assert isinstance(first, NotSent)
    assert "neither in Explicit VR Little Endian nor the other" in first.reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x0117, "invalid SOP instance"),
        (0x0122, "SOP class not supported"),
        (0xA900, "does not match its SOP class"),
        (0xA9FF, "does not match its SOP class"),
        (0xC000, "cannot understand"),
        (0xC123, "cannot understand"),
        (0x0106, "invalid attribute value"),
    ],
)
def test_what_cannot_heal_is_given_up_at_once_with_a_sentence(
    status: int, words: str, database: Database, put: PutObject
) -> None:
    with peer(SEG) as pacs:
        pacs.status = status
        put(pacs.destination())
        with delivering(database, pacs.destination()):
            wait_until(lambda: query(database, "SELECT 1 FROM glionode_outbox WHERE state = 'dead'"), "it is dead")
        ((attempts, error),) = query(database, "SELECT attempts, last_error FROM glionode_outbox")
        assert (attempts, words in error, "glionode retry --dead" in error) == (1, True, True)
        assert error.startswith(f"it responded with status 0x{status:04X} ({store_meaning(status).text})")


@pytest.mark.parametrize("status", [0xA700, 0xA7FE, 0x0110, 0x0124, 0x0213, 0x0300, 0xFE00])
def test_what_may_pass_is_tried_again(status: int, objects: list[Outgoing]) -> None:
    with peer(MR) as pacs:
        pacs.status = status
        assert sent(pacs.destination(), objects) == [NotSent(f"it responded with status 0x{status:04X}")] * 2
        pacs.status = 0x0000
        assert sent(pacs.destination(), objects) == [Sent()] * 2


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_of_storing_is_stored_logged_and_audited(
    status: int, database: Database, put: PutObject, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # an earlier test of this process may have set up the log of a command
    with peer(SEG) as pacs:
        pacs.status = status
        uid = put(pacs.destination())
        with delivering(database, pacs.destination()):
            wait_until(lambda: query(database, "SELECT 1 FROM glionode_outbox WHERE state = 'sent'"), "it is sent")
    assert query(database, "SELECT what, detail FROM glionode_audit") == [
        ("sent", f"{uid} to pacs: stored with warning 0x{status:04X}")
    ]
    assert f"0x{status:04X}: {store_meaning(status).text}" in caplog.text


@pytest.mark.parametrize("status", [0x0111, 0x0107, 0xB123])
def test_what_the_peer_says_to_have_is_asked_for(status: int, objects: list[Outgoing]) -> None:
    with peer(MR) as pacs:
        pacs.status = status
        pacs.known = {objects[0].entry.sop_instance_uid, "1.2.3"}
        first, second = sent(pacs.destination(), objects)
    assert first == Sent(f"it responded with status 0x{status:04X}, and a query finds the object there")
    assert isinstance(second, NotSent)
    assert "a query does not find the object" in second.reason
    assert not second.final
    head = dcmread(objects[0].entry.path)
    question = pacs.queries[0]
    assert (question.QueryRetrieveLevel, question.SOPInstanceUID) == ("IMAGE", head.SOPInstanceUID)
    assert (question.StudyInstanceUID, question.SeriesInstanceUID) == (head.StudyInstanceUID, head.SeriesInstanceUID)


def test_a_duplicate_is_not_believed_of_a_peer_that_cannot_be_asked(objects: list[Outgoing]) -> None:
    with peer(MR, finds=False) as pacs:
        pacs.status = 0x0111
        (first, _) = sent(pacs.destination(), objects)
    assert isinstance(first, NotSent)
    assert "cannot be asked" in first.reason
    with peer(MR) as pacs:
        pacs.status, pacs.find_status, pacs.known = 0x0111, 0xA700, {objects[0].entry.sop_instance_uid}
        (first, _) = sent(pacs.destination(), objects)
    assert isinstance(first, NotSent)
    assert "C-FIND status 0xA700" in first.reason


def test_a_duplicate_is_left_to_storage_commitment_where_that_is_asked_for(objects: list[Outgoing]) -> None:
    with peer(MR) as pacs:
        pacs.status = 0x0111
        outcomes = sent(pacs.destination(storage_commitment=True), objects)
    assert all(isinstance(each, Sent) for each in outcomes)
    assert pacs.queries == []


@pytest.mark.parametrize("wrong", ["MessageIDBeingRespondedTo", "AffectedSOPInstanceUID"])
def test_a_response_about_another_message_is_not_believed(
    wrong: str, objects: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetdicom.dimse_messages import C_STORE_RSP

    real = C_STORE_RSP.primitive_to_message

    def change(message: Any, primitive: Any) -> None:
        real(message, primitive)
        setattr(message.command_set, wrong, 77 if wrong.startswith("Message") else "1.2.3")

    monkeypatch.setattr(C_STORE_RSP, "primitive_to_message", change)
    with peer(MR) as pacs, pytest.raises(PeerFailed, match="of another one"):
        sent(pacs.destination(), objects)


def test_a_file_of_another_object_is_not_sent_under_the_uid_of_the_row(
    database: Database, put: PutObject, tmp_path: Path
) -> None:
    with peer(SEG) as pacs:
        first, second = put(pacs.destination()), put(pacs.destination())
        (tmp_path / f"{first}.dcm").write_bytes((tmp_path / f"{second}.dcm").read_bytes())
        with delivering(database, pacs.destination()):
            wait_until(lambda: second in pacs.stored, "the other is sent")
            wait_until(lambda: query(database, "SELECT 1 FROM glionode_outbox WHERE state = 'dead'"), "it is dead")
    ((uid, error),) = query(database, "SELECT sop_instance_uid, last_error FROM glionode_outbox WHERE state = 'dead'")
    assert (uid, "holds another object" in error) == (first, True)


def test_a_file_that_was_damaged_is_not_sent(database: Database, put: PutObject, tmp_path: Path) -> None:
    with peer(SEG) as pacs:
        damaged, whole = put(pacs.destination()), put(pacs.destination())
        for uid in (damaged, whole):
            digest = hashlib.sha256((tmp_path / f"{uid}.dcm").read_bytes()).hexdigest()
            query(database, "UPDATE glionode_outbox SET sha256 = %s WHERE sop_instance_uid = %s", digest, uid)
        content = (tmp_path / f"{damaged}.dcm").read_bytes()
        (tmp_path / f"{damaged}.dcm").write_bytes(content[:-1] + b"?")
        with delivering(database, pacs.destination()):
            wait_until(lambda: whole in pacs.stored, "the other is sent")
            wait_until(lambda: query(database, "SELECT 1 FROM glionode_outbox WHERE state = 'dead'"), "it is dead")
    ((uid, error),) = query(database, "SELECT sop_instance_uid, last_error FROM glionode_outbox WHERE state = 'dead'")
    assert (uid, "was changed or damaged" in error, damaged in pacs.stored) == (damaged, True, False)


def test_echo_asks_for_the_classes_of_results() -> None:
    classes = produced_classes(OutputsSettings())
    assert classes == (SEG, SR, CAPTURE)
    with peer(*classes) as pacs:
        found = echo(pacs.destination(), "NODE", sop_class_uids=classes)
    both = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    assert [(each.sop_class_uid, each.transfer_syntax_uids) for each in found.classes] == [(c, both) for c in classes]
    assert found.takes_all
    with peer(SR, syntaxes=[ImplicitVRLittleEndian]) as pacs:
        found = echo(pacs.destination(), "NODE", sop_class_uids=classes)
    assert [each.transfer_syntax_uids for each in found.classes] == [(), (ImplicitVRLittleEndian,), ()]
    assert (found.answered, found.takes_all) == (True, False)
    with peer() as pacs:
        assert not echo(pacs.destination(), "NODE", sop_class_uids=classes).takes_all
    assert not pacs.stored


def test_the_command_says_which_classes_are_taken_by_its_exit_status_too(tmp_path: Path) -> None:
    def of(pacs: Peer, *outputs: str) -> tuple[int, str]:
        config = tmp_path / "glionode.toml"
        where = pacs.destination()
        config.write_text(
            "\n".join(["[outputs]", *outputs, "[[destinations]]", 'name = "pacs"', 'ae_title = "PACS"'])
            + f'\nhost = "127.0.0.1"\nport = {where.port}\n'
        )
        return run(config, "echo", "pacs")

    with peer(SEG, SR) as pacs:
        status, text = of(pacs)
        assert status == 1
        assert "Secondary Capture Image Storage: NOT TAKEN" in text
        assert "Segmentation Storage: Explicit VR Little Endian, Implicit VR Little Endian" in text
        assert of(pacs, "capture = false")[0] == 0


def test_each_status_has_one_meaning() -> None:
    assert {store_meaning(each).consequence for each in (0xB000, 0xB006, 0xB007)} == {Consequence.STORED_WITH_WARNING}
    assert [each for each in range(0x10000) if store_meaning(each).consequence is Consequence.STORED] == [0]
    expected = {0x0110: "SEND", 0x0112: "SEND", 0x0119: "GIVE", 0x0122: "GIVE", 0x0131: "ASK", 0x0213: "ASK", 7: "SEND"}
    assert {each: not_committed(each)[0].name.split("_")[0] for each in expected} == expected
    assert len(NotCommitted) == 3


def test_a_host_name_that_nobody_knows_is_a_destination_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("plugin.dimse.association.ApplicationEntity.associate", unknown)
    address = PeerAddress("PACS", "pacs.invalid", 104)
    with pytest.raises(PeerFailed, match=r"pacs\.invalid cannot be reached \(Name or service not known\)"):
        send_c_echo(address, "GLIONODE", 5)
