"""Images that come again under their UIDs with other bytes: by another route, corrected, whole at last, or others."""

import errno
import os
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from plugin.archive.store import InstanceKey
from plugin.listener.c_store_handler import OTHER_IMAGE_UNDER_THIS_UID, OTHER_PATIENT_OF_THIS_UID
from plugin.listener.repeated_instance import Repeat
from tests.support.archive_index import MemoryIndex
from tests.support.hostile_dicom import encoded
from tests.support.listener import ListenerWithArchive, MakeListener, association, send_bytes
from tests.support.node import make_instance, new_study_uid, send, write_instance


def key_of(instance: Dataset) -> InstanceKey:
    return InstanceKey(instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)


def patient_in(listener: ListenerWithArchive, instance: Dataset) -> str:
    return str(dcmread(listener.archive.path(key_of(instance))).PatientID)


def corrected(instance: Dataset, patient: str = "CORRECTED-1") -> Dataset:
    made = deepcopy(instance)
    made.PatientID, made.PatientName = patient, "CORRECTED^NAME"
    return made


def test_dcmtk_sends_a_study_again_in_other_encodings(
    make_listener: MakeListener, program: Callable[[str], str], tmp_path: Path
) -> None:
    listener, study = make_listener(), new_study_uid()
    instances = [make_instance(study, number=number) for number in range(1, 4)]
    assert send(listener.port, *instances) == [0x0000] * 3
    first = {path: path.read_bytes() for path in listener.archive.files(study)}
    storescu = [program("storescu"), "-aec", "GLIONODE", "127.0.0.1", str(listener.port)]
    paths = [str(write_instance(instance, tmp_path / "sent")) for instance in instances]
    subprocess.run([*storescu, "-xi", *paths], check=True, capture_output=True)  # implicit VR alone
    for instance in instances:
        instance.InstitutionName = "ROUTER"
        instance.compress(JPEGLSLossless, generate_instance_uid=False)
    paths = [str(write_instance(instance, tmp_path / "coded")) for instance in instances]
    subprocess.run([*storescu, "-xt", *paths], check=True, capture_output=True)  # JPEG-LS
    assert {path: path.read_bytes() for path in listener.archive.files(study)} == first
    assert [each.repeat for each in listener.repeats] == [Repeat.KEPT_FIRST] * 6
    assert {each.tags for each in listener.repeats} == {(0x00020010,), (0x00020010, 0x00080080)}
    assert listener.stored_studies == [study] * 3, "nothing new, so no new job"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_other_pixels_are_refused_in_any_encoding(make_listener: MakeListener, syntax: str) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    send(listener.port, instance)
    before = listener.archive.path(key_of(instance)).read_bytes()
    instance.PixelData = bytes(128)
    instance.PatientID = "CORRECTED-1"
    with association(listener.port, syntax=syntax) as peer:
        if syntax == RLELossless:
            instance.compress(RLELossless, generate_instance_uid=False)
            response = peer.send_c_store(instance)
        else:
            response = send_bytes(peer, instance.SOPInstanceUID, encoded(instance, syntax))
    assert (response.Status, response.ErrorComment) == (OTHER_IMAGE_UNDER_THIS_UID, "other pixels")
    assert listener.archive.path(key_of(instance)).read_bytes() == before
    assert listener.archive.replaced(key_of(instance)) == ()
    assert not list((listener.archive.data_dir / "incoming").iterdir())


def test_a_corrected_patient_takes_the_place_of_the_first_which_is_kept(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    send(listener.port, instance)
    first = listener.archive.path(key_of(instance)).read_bytes()
    assert send(listener.port, corrected(instance), corrected(instance)) == [0x0000, 0x0000]
    assert patient_in(listener, instance) == "CORRECTED-1"
    assert [path.read_bytes() for path in listener.archive.replaced(key_of(instance))] == [first]
    assert listener.stored_studies == [instance.StudyInstanceUID] * 2, "the study has something new"
    (outcome,) = listener.repeats
    assert (outcome.repeat, outcome.tags) == (Repeat.NEW_PATIENT, (0x00100010, 0x00100020))
    assert not list((listener.archive.data_dir / "incoming").iterdir())


def test_a_replaced_patient_does_not_come_back_by_itself(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    send(listener.port, instance, corrected(instance))
    instance.InstitutionName = "ROUTER"
    assert send(listener.port, instance) == [OTHER_PATIENT_OF_THIS_UID]
    assert patient_in(listener, instance) == "CORRECTED-1"
    assert send(listener.port, corrected(instance, "CORRECTED-2")) == [0x0000], "a third patient is a new correction"
    assert len(listener.archive.replaced(key_of(instance))) == 2


@pytest.mark.parametrize(
    ("setting", "status", "repeat"),
    [
        ("keep", 0x0000, Repeat.KEPT_FIRST_PATIENT),
        ("refuse", OTHER_PATIENT_OF_THIS_UID, Repeat.REFUSED_PATIENT),
    ],
)
def test_a_site_may_keep_or_refuse(make_listener: MakeListener, setting: str, status: int, repeat: Repeat) -> None:
    listener, instance = make_listener(corrected_patients=setting), make_instance(new_study_uid())
    assert send(listener.port, instance, corrected(instance)) == [0x0000, status]
    assert patient_in(listener, instance) == instance.PatientID
    assert listener.archive.replaced(key_of(instance)) == ()
    assert [each.repeat for each in listener.repeats] == [repeat]


def test_an_image_that_came_cut_short_may_be_sent_again(make_listener: MakeListener) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    content = encoded(instance, ExplicitVRLittleEndian)
    with association(listener.port) as peer:
        for sent in (content[:-20], content):
            assert send_bytes(peer, instance.SOPInstanceUID, sent).Status == 0x0000
        response = send_bytes(peer, instance.SOPInstanceUID, content[:-20])
    assert (response.Status, response.ErrorComment) == (OTHER_IMAGE_UNDER_THIS_UID, "pixels cut short")
    assert listener.archive.path(key_of(instance)).read_bytes().endswith(content)
    assert [each.repeat for each in listener.repeats] == [Repeat.MENDED, Repeat.REFUSED_IMAGE]


def _rot(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _cut(path: Path) -> None:
    os.truncate(path, 200)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("other_encoding", [False, True])
@pytest.mark.parametrize("damage", [_rot, _zero, _cut, _empty])
def test_a_file_that_was_damaged_on_the_disk_gives_way_to_a_whole_one(
    make_listener: MakeListener, damage: Callable[[Path], None], other_encoding: bool
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    listener.archive.index = MemoryIndex()
    send(listener.port, instance)
    path = listener.archive.path(key_of(instance))
    received = path.read_bytes()
    damage(path)
    damaged = path.read_bytes()
    if other_encoding:
        instance.InstitutionName = "ROUTER"
    assert send(listener.port, instance, instance) == [0x0000, 0x0000]
    assert (path.read_bytes() == received) is not other_encoding
    assert dcmread(path).pixel_array.tolist() == instance.pixel_array.tolist()
    assert [each.read_bytes() for each in listener.archive.replaced(key_of(instance))] == [damaged], "it is kept"
    assert [each.repeat for each in listener.repeats] == [Repeat.MENDED]
    assert listener.stored_studies == [instance.StudyInstanceUID] * 2, "the study has something new"


@pytest.mark.parametrize("damage", [_zero, _cut, _empty])
def test_damage_that_needs_no_digest_to_be_seen_is_mended_in_an_old_archive_too(
    make_listener: MakeListener, damage: Callable[[Path], None]
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    send(listener.port, instance)
    damage(listener.archive.path(key_of(instance)))
    assert send(listener.port, instance) == [0x0000]
    assert [each.repeat for each in listener.repeats] == [Repeat.MENDED]


def test_a_damaged_file_gives_way_to_no_cut_image_and_to_no_other_patient(make_listener: MakeListener) -> None:
    listener, instance = make_listener(corrected_patients="refuse"), make_instance(new_study_uid())
    listener.archive.index = MemoryIndex()
    send(listener.port, instance)
    path = listener.archive.path(key_of(instance))
    _rot(path)
    assert send(listener.port, corrected(instance)) == [OTHER_PATIENT_OF_THIS_UID]
    instance.PixelData = instance.PixelData[:10]
    assert send(listener.port, instance) == [OTHER_IMAGE_UNDER_THIS_UID]
    assert listener.archive.replaced(key_of(instance)) == ()


def test_a_file_that_the_disk_cannot_read_gives_way(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    send(listener.port, instance)
    path = listener.archive.path(key_of(instance))

    def failing(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("plugin.archive.store.filecmp.cmp", failing)
    monkeypatch.setattr("plugin.archive.damage.sha256_hex", failing)
    monkeypatch.setattr("plugin.archive.compare_instances.read_patient", failing)
    assert send(listener.port, instance) == [0x0000]
    assert [each.repeat for each in listener.repeats] == [Repeat.MENDED]
    assert dcmread(path).PatientID == instance.PatientID


def test_a_digest_that_a_crash_left_behind_accuses_no_whole_file(make_listener: MakeListener) -> None:
    """The process ended between a replacement and its record: the digest is that of the file before."""
    listener, instance = make_listener(), make_instance(new_study_uid())
    listener.archive.index = index = MemoryIndex()
    send(listener.port, instance)
    before = dict(index.digests)
    send(listener.port, corrected(instance))
    index.digests = before
    again = corrected(instance)
    again.InstitutionName = "ROUTER"
    assert send(listener.port, again) == [0x0000]
    assert [each.repeat for each in listener.repeats] == [Repeat.NEW_PATIENT, Repeat.KEPT_FIRST]
