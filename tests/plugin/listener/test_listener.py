"""The listener: associations by pynetdicom and DCMTK; what is stored is read back from the archive's files."""

import logging
import resource
import struct
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification

from plugin.archive.data_set_head import NotADataSet, read_head
from plugin.archive.incoming_file import IncomingFile
from plugin.archive.quarantine import count_quarantined, quarantine_folder
from plugin.archive.store import EmbeddedArchive, InstanceKey, Stored
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.listener.c_store_handler import (
    NOT_A_DATA_SET,
    OTHER_IMAGE_UNDER_THIS_UID,
    OTHER_UID_IN_COMMAND,
    OUT_OF_RESOURCES,
    UNUSABLE_UID,
)
from plugin.listener.refusals import read_refusals
from plugin.logs import limit_library_logging
from tests.support.hostile_dicom import encoded
from tests.support.listener import (
    MakeListener,
    associate_request,
    association,
    pdu,
    raw_connection,
    read_pdu,
    send_bytes,
)
from tests.support.node import MARKER, MR_IMAGE_STORAGE, make_instance, new_study_uid, wait_until, write_instance


def data_set_bytes(path: Path) -> bytes:
    """Return what follows the file meta information in a file."""
    content = path.read_bytes()
    length = struct.unpack("<L", content[140:144])[0]
    return content[144 + length :]


def only_file(archive: EmbeddedArchive) -> Path:
    (path,) = [path for study in archive.studies() for path in archive.files(study)]
    return path


def test_an_echo_is_answered(make_listener: MakeListener) -> None:
    with association(make_listener().port, Verification) as peer:
        assert peer.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEG2000Lossless,
        RLELossless,
    ],
)
def test_a_data_set_is_stored_byte_for_byte(make_listener: MakeListener, syntax: str) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    content = encoded(instance, syntax)
    with association(listener.port, syntax=syntax) as peer:
        assert send_bytes(peer, instance.SOPInstanceUID, content).Status == 0x0000
    path = only_file(listener.archive)
    assert data_set_bytes(path) == content
    meta = dcmread(path, stop_before_pixels=True, force=False).file_meta if syntax != RLELossless else None
    assert meta is None or meta.TransferSyntaxUID == syntax
    assert path.relative_to(path.parents[2]) == Path(
        instance.StudyInstanceUID, instance.SeriesInstanceUID, f"{instance.SOPInstanceUID}.dcm"
    )
    assert listener.stored_studies == [instance.StudyInstanceUID]


GE_PRIVATE, JPIP, MPEG2 = "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.100"


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((ExplicitVRBigEndian, ImplicitVRLittleEndian, ExplicitVRLittleEndian), ExplicitVRLittleEndian),
        ((JPEGBaseline8Bit, JPEG2000Lossless, RLELossless, ImplicitVRLittleEndian), ImplicitVRLittleEndian),
        ((JPEGBaseline8Bit, JPEGLSLossless), JPEGLSLossless),
        ((GE_PRIVATE, JPEGBaseline8Bit), JPEGBaseline8Bit),
        ((GE_PRIVATE, "2.25.7", ImplicitVRLittleEndian), ImplicitVRLittleEndian),
        ((GE_PRIVATE,), None),
        ((JPIP, MPEG2), None),
        (("2.25.7",), None),  # nobody's
    ],
)
def test_the_best_transfer_syntax_that_can_be_read_is_accepted(
    make_listener: MakeListener, proposed: tuple[str, ...], expected: str | None
) -> None:
    listener = make_listener()
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(Verification)
    ae.add_requested_context(MR_IMAGE_STORAGE, list(proposed))
    peer = ae.associate("127.0.0.1", listener.port, ae_title="GLIONODE")
    accepted = {str(each.abstract_syntax): str(each.transfer_syntax[0]) for each in peer.accepted_contexts}
    assert peer.send_c_echo().Status == 0x0000
    peer.release()
    assert accepted.get(MR_IMAGE_STORAGE) == expected
    results = {str(each.abstract_syntax): each.result for each in peer.rejected_contexts}
    assert results == ({MR_IMAGE_STORAGE: 4} if expected is None else {})  # PS3.8 table 9-18
    counts = read_refusals(listener.archive.data_dir)
    assert counts == ({"no transfer syntax that can be read": 1} if expected is None else {})


def test_each_context_of_a_class_is_judged_by_itself(make_listener: MakeListener) -> None:
    listener = make_listener()
    ae = ApplicationEntity("SENDER")
    contexts = [build_context(MR_IMAGE_STORAGE, syntax) for syntax in (GE_PRIVATE, JPEG2000Lossless)]
    peer = ae.associate("127.0.0.1", listener.port, ae_title="GLIONODE", contexts=contexts)
    assert [str(each.transfer_syntax[0]) for each in peer.accepted_contexts] == [JPEG2000Lossless]
    assert [each.result for each in peer.rejected_contexts] == [4]
    peer.release()
    assert read_refusals(listener.archive.data_dir) == {}  # the class can be sent


def test_every_storage_class_and_a_private_one_is_accepted(make_listener: MakeListener) -> None:
    listener = make_listener()
    private = "1.3.12.2.1107.5.9.1"  # Siemens CSA non-image storage
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts] + [private]
    instance = make_instance(new_study_uid(), sop_class=private)
    for some in (classes[:100], classes[100:]):
        ae = ApplicationEntity("SENDER")
        for sop_class in some:
            ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        peer = ae.associate("127.0.0.1", listener.port, ae_title="GLIONODE")
        assert len(peer.accepted_contexts) == len(some)
        if private in some:
            assert peer.send_c_store(instance).Status == 0x0000
        peer.release()
    assert only_file(listener.archive).stem == instance.SOPInstanceUID


def test_dcmtk_sends_and_dcmdump_reads_the_stored_files(
    make_listener: MakeListener, program: Callable[[str], str], tmp_path: Path
) -> None:
    listener = make_listener()
    sent = [make_instance(new_study_uid(), number=number) for number in range(1, 4)]
    paths = [write_instance(instance, tmp_path / "sent") for instance in sent]
    command = [program("storescu"), "-aec", "GLIONODE", "127.0.0.1", str(listener.port), *map(str, paths)]
    subprocess.run(command, check=True, capture_output=True)
    kept = [path for study in listener.archive.studies() for path in listener.archive.files(study)]
    assert {path.stem for path in kept} == {instance.SOPInstanceUID for instance in sent}
    dump = subprocess.run(
        [program("dcmdump"), "+P", "InstanceNumber", str(kept[0])], check=True, capture_output=True, text=True
    )
    assert "InstanceNumber" in dump.stdout


def test_a_duplicate_is_stored_once_and_another_image_is_refused(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    with association(listener.port) as peer:
        assert peer.send_c_store(instance).Status == 0x0000
        first = only_file(listener.archive).read_bytes()
        assert peer.send_c_store(instance).Status == 0x0000
        instance.PixelData = bytes(128)
        response = peer.send_c_store(instance)
    assert (response.Status, response.ErrorComment) == (OTHER_IMAGE_UNDER_THIS_UID, "other pixels")
    assert only_file(listener.archive).read_bytes() == first
    assert listener.stored_studies == [instance.StudyInstanceUID]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length", "ignore:A value of type")
def test_an_invalid_uid_is_refused_and_makes_no_path(make_listener: MakeListener, tmp_path: Path) -> None:
    listener = make_listener()
    before = sorted(tmp_path.rglob("*"))
    with association(listener.port) as peer:
        for uid in ("../../etc/x", "1.2/3", "1." * 33, "", "1.2\\1.3", MARKER):
            for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                instance = make_instance(new_study_uid())
                named = instance.SOPInstanceUID
                setattr(instance, tag, uid)
                status = send_bytes(peer, named, encoded(instance, ExplicitVRLittleEndian)).Status
                assert status == UNUSABLE_UID, (uid, tag)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_command_that_names_another_instance_is_refused(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    with association(listener.port) as peer:
        answer = send_bytes(peer, generate_uid(), encoded(instance, ExplicitVRLittleEndian))
    assert answer.Status == OTHER_UID_IN_COMMAND


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_data_set_that_does_not_parse_is_refused_and_the_next_is_stored(
    make_listener: MakeListener, syntax: str
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    endless = struct.pack("<HHL", 8, 5, 1 << 31)
    with association(listener.port, syntax=syntax) as peer:
        for content in (b"no data set at all" * 9, b"\xff" * 400, bytes(1 << 20), endless):
            assert send_bytes(peer, generate_uid(), content).Status == NOT_A_DATA_SET
        assert send_bytes(peer, instance.SOPInstanceUID, encoded(instance, syntax)).Status == 0x0000
    assert count_quarantined(listener.archive.data_dir) == 4
    assert any(data_set_bytes(path) == endless for path in quarantine_folder(listener.archive.data_dir).iterdir())


def test_a_deflated_bomb_is_not_inflated() -> None:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(200)) + deflate.flush()
    tracemalloc.start()
    with pytest.raises(NotADataSet):
        read_head(BytesIO(bomb), DeflatedExplicitVRLittleEndian)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("encoding", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_private_transfer_syntax_is_read_with_explicit_or_implicit_vr(encoding: str) -> None:
    instance = make_instance("1.2.3")
    key = read_head(BytesIO(encoded(instance, encoding)), "1.2.840.113619.5.2").key  # one of GE's
    assert key == InstanceKey("1.2.3", "1.2.3.1", instance.SOPInstanceUID)


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uids_inside_sequences_are_ignored(undefined: bool, syntax: str) -> None:
    instance = make_instance("1.2.3")
    inner = Dataset()
    inner.StudyInstanceUID, inner.SeriesInstanceUID = "6.6.6", "6.6.6"
    middle = Dataset()
    middle.ReferencedSeriesSequence = [inner]
    middle.StudyInstanceUID = "6.6"
    for item in (inner, middle):
        item.is_undefined_length_sequence_item = undefined
    instance.ReferencedStudySequence = [middle, inner]
    instance["ReferencedStudySequence"].is_undefined_length = undefined
    middle["ReferencedSeriesSequence"].is_undefined_length = undefined
    key = read_head(BytesIO(encoded(instance, syntax)), syntax).key
    assert key == InstanceKey("1.2.3", "1.2.3.1", instance.SOPInstanceUID)


def test_on_a_full_disk_the_status_is_a700_and_the_association_goes_on(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = make_listener(minimum_free_bytes=1)
    with association(listener.port) as peer, monkeypatch.context() as patched:
        patched.setattr(EmbeddedArchive, "free_bytes", 0)
        answer = peer.send_c_store(make_instance(new_study_uid()))
        assert answer.Status == OUT_OF_RESOURCES
        patched.undo()
        assert peer.send_c_store(make_instance(new_study_uid())).Status == 0x0000
        assert peer.is_established
    assert len(listener.stored_studies) == 1


def test_only_known_calling_titles_and_the_own_called_title_are_accepted(make_listener: MakeListener) -> None:
    port = make_listener(calling_ae_titles=("SCANNER",)).port
    expected_by_titles = {("SCANNER", "GLIONODE"): True, ("STRANGER", "GLIONODE"): False, ("SCANNER", "OTHER"): False}
    for (calling, called), expected in expected_by_titles.items():
        ae = ApplicationEntity(calling)
        ae.add_requested_context(Verification)
        peer = ae.associate("127.0.0.1", port, ae_title=called)
        assert peer.is_established is expected
        if expected:
            peer.release()


def test_sixteen_associations_at_once(
    make_listener: MakeListener, program: Callable[[str], str], tmp_path: Path
) -> None:
    listener = make_listener()
    senders = []
    for number in range(16):
        folder = tmp_path / f"sent{number}"
        study = new_study_uid()
        for _ in range(3):
            write_instance(make_instance(study), folder)
        command = [program("storescu"), "-aec", "GLIONODE", "+sd", "127.0.0.1", str(listener.port), str(folder)]
        senders.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert [sender.wait(60) for sender in senders] == [0] * 16
    assert sum(len(listener.archive.files(study)) for study in listener.archive.studies()) == 48


def make_fragments(instance: Dataset) -> list[P_DATA]:
    """Return a C-STORE request in fragments of 200 bytes."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MR_IMAGE_STORAGE, instance.SOPInstanceUID
    request.DataSet = BytesIO(encoded(instance, ExplicitVRLittleEndian))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return list(message.encode_msg(1, 200))


def test_an_incomplete_instance_is_removed(make_listener: MakeListener, tmp_path: Path) -> None:
    listener = make_listener()
    incoming = tmp_path / "incoming"
    with association(listener.port) as peer:
        for fragment in make_fragments(make_instance(new_study_uid()))[:-2]:
            peer.dul.send_pdu(fragment)
        wait_until(lambda: list(incoming.iterdir()), "it is written while it is received")
        peer.abort()
    wait_until(lambda: not list(incoming.iterdir()), "the incomplete file is removed", seconds=5)
    assert listener.archive.studies() == ()


def test_memory_does_not_grow_with_an_object(
    make_listener: MakeListener, program: Callable[[str], str], tmp_path: Path
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    size = 64 << 20
    instance.NumberOfFrames = size // len(instance.PixelData)
    instance.PixelData = bytes(size)
    path = write_instance(instance, tmp_path / "sent")
    del instance
    tracemalloc.start()
    command = [program("storescu"), "-aec", "GLIONODE", "127.0.0.1", str(listener.port), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size // 16
    assert only_file(listener.archive).stat().st_size > size


def test_on_a_disk_that_fills_up_the_status_is_a700_and_the_association_goes_on(
    make_listener: MakeListener, tmp_path: Path
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with association(listener.port) as peer:
        content = encoded(instance, ExplicitVRLittleEndian) + bytes(4 << 20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # EFBIG, where a full disk gives ENOSPC
        try:
            assert send_bytes(peer, instance.SOPInstanceUID, content).Status == OUT_OF_RESOURCES
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list((tmp_path / "incoming").iterdir()) == []
        assert peer.send_c_store(instance).Status == 0x0000


COMMAND, LAST_COMMAND = b"\x01", b"\x03"
UNKNOWN_COMMAND = struct.pack("<HHLH", 0x0000, 0x0100, 2, 0x7777)


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [LAST_COMMAND + UNKNOWN_COMMAND],
        [LAST_COMMAND + b"\xff" * 99],
        [COMMAND + bytes(100_000)] * 12,
        [b"\x00" + bytes(100_000)] * 12,
    ],
    ids=["empty", "unknown", "garbage", "endless command", "endless data set"],
)
def test_an_invalid_message_ends_its_own_association_only(make_listener: MakeListener, values: list[bytes]) -> None:
    listener = make_listener()
    with association(listener.port) as peer:
        for value in values:
            part = P_DATA()
            part.presentation_data_value_list = [[1, value]]
            peer.dul.send_pdu(part)
        wait_until(lambda: not peer.is_established, "the association is aborted")
    with association(listener.port) as peer:
        assert peer.send_c_store(make_instance(new_study_uid())).Status == 0x0000


def test_requests_sent_ahead_wait_on_the_connection(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listener, store = make_listener(), EmbeddedArchive.store
    go_on, begun = threading.Event(), threading.Event()

    def store_later(archive: EmbeddedArchive, key: InstanceKey, incoming: IncomingFile) -> Stored:
        begun.set()
        go_on.wait(40)
        return store(archive, key, incoming)

    monkeypatch.setattr(EmbeddedArchive, "store", store_later)
    study = new_study_uid()
    with association(listener.port) as peer:
        for _ in range(20):
            for fragment in make_fragments(make_instance(study)):
                peer.dul.send_pdu(fragment)
        assert begun.wait(40)
        wait_until(peer.dul.to_provider_queue.empty, "all are sent")
        assert len(list((tmp_path / "incoming").iterdir())) == 1
        go_on.set()
        wait_until(lambda: len(listener.archive.files(study)) == 20, "all are stored")
        assert peer.is_established


def test_a_data_set_may_share_a_pdu_with_its_command(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    together = b"".join(
        struct.pack(">LB", len(value) + 1, context_id) + value
        for part in make_fragments(instance)
        for context_id, value in part.presentation_data_value_list
    )
    with raw_connection(listener.port) as connection:
        connection.sendall(associate_request(sop_class=MR_IMAGE_STORAGE, syntax=ExplicitVRLittleEndian))
        assert read_pdu(connection)[0] == 0x02, "it is accepted"
        connection.sendall(pdu(0x04, together))
        assert struct.pack("<HHLH", 0x0000, 0x0900, 2, 0x0000) in read_pdu(connection), "the status is success"
    assert only_file(listener.archive).name == f"{instance.SOPInstanceUID}.dcm"


def test_other_messages_may_come_between_images(make_listener: MakeListener) -> None:
    listener, study = make_listener(), new_study_uid()
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(Verification)
    ae.add_requested_context(MR_IMAGE_STORAGE)
    peer = ae.associate("127.0.0.1", listener.port, ae_title="GLIONODE")
    for _ in range(3):
        assert peer.send_c_store(make_instance(study)).Status == 0x0000
        assert peer.send_c_echo().Status == 0x0000
    peer.release()
    assert len(listener.archive.files(study)) == 3


def test_a_request_on_a_context_that_was_not_accepted_ends_the_association(make_listener: MakeListener) -> None:
    listener = make_listener()
    with association(listener.port) as peer:
        for part in make_fragments(make_instance(new_study_uid())):
            part.presentation_data_value_list = [[99, value] for _, value in part.presentation_data_value_list]
            peer.dul.send_pdu(part)
        wait_until(lambda: not peer.is_established, "the association is aborted")
    assert listener.archive.studies() == ()


@pytest.mark.filterwarnings("ignore::UserWarning")  # as in the node: pydicom warns of what it reads forgivingly
def test_logs_contain_no_text_of_the_instance(
    make_listener: MakeListener, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("highdicom", "procrastinate", "pydicom", "pynetdicom", "pynetdicom.dul", "pynetdicom.utils"):
        caplog.set_level(logging.NOTSET, logger=name)  # puts it back after the test
    limit_library_logging(logging.DEBUG)
    listener, instance = make_listener(), make_instance(new_study_uid())
    with association(listener.port) as peer:
        peer.send_c_store(instance)
        instance.PatientComments = f"{MARKER} again"
        peer.send_c_store(instance)
        instance.PatientID = f"{MARKER} corrected"
        peer.send_c_store(instance)
        instance.PixelData = bytes(128)
        peer.send_c_store(instance)
        send_bytes(peer, generate_uid(), b"\x08\x00\x05\x00CS\x0a\x00" + MARKER.encode())
    output = capfd.readouterr()
    assert "refused instance" in caplog.text
    assert "came again for another patient" in caplog.text
    assert MARKER not in caplog.text + output.out + output.err
