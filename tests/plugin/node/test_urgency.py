"""Studies are urgent by their headers or by their sender, and urgent studies run first."""

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from plugin.archive.data_set_head import read_head
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import EmbeddedArchive, InstanceKey
from plugin.jobs.job import Job
from plugin.jobs.reconcile import Reconciler
from plugin.retention.purge import Purger
from plugin.settings.sections import StudySettings
from tests.support.hostile_dicom import SYNTAXES, encoded
from tests.support.listener import MakeListener, association
from tests.support.node import NodeInThread, make_instance, new_study_uid, send, wait_until


def is_urgent(instance: Dataset, syntax: str = ExplicitVRLittleEndian) -> bool:
    head = read_head(BytesIO(encoded(instance, syntax)), syntax)
    assert head.key.sop_instance_uid == instance.SOPInstanceUID
    return head.urgent


def requested(priority: str, undefined: bool = False) -> Dataset:
    """Return an instance with a priority in its request attributes, after a sequence that contains "STAT"."""
    instance, attributes, code = make_instance("1.2.3"), Dataset(), Dataset()
    code.CodeValue, code.CodeMeaning = "1", "STAT"
    attributes.RequestedProcedureCodeSequence = [code]
    attributes.StudyInstanceUID = "6.6.6"
    attributes.RequestedProcedureID = "STAT"
    attributes.RequestedProcedurePriority = priority
    attributes.ScheduledProcedureStepID = "STAT"
    instance.RequestAttributesSequence = [Dataset(), attributes]
    for item in (attributes, code):
        item.is_undefined_length_sequence_item = undefined
    instance["RequestAttributesSequence"].is_undefined_length = undefined
    attributes["RequestedProcedureCodeSequence"].is_undefined_length = undefined
    return instance


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("priority", "urgent"),
    [
        ("STAT", True),
        ("HIGH", True),
        ("stat ", True),
        ("S^Stat", True),
        ("URGENT", True),
        ("ROUTINE", False),
        ("MEDIUM", False),
        ("LOW", False),
        ("", False),
        ("NOT STAT", False),
    ],
)
def test_a_priority_is_read_from_each_of_its_elements(priority: str, urgent: bool, syntax: str) -> None:
    instance = make_instance("1.2.3")
    instance.RequestedProcedurePriority = priority
    assert is_urgent(instance, syntax) is urgent
    for undefined in (False, True):
        assert is_urgent(requested(priority, undefined), syntax) is urgent
    instance = make_instance("1.2.3")
    instance.StudyPriorityID = priority.strip().replace("^", " ").upper()
    assert is_urgent(instance, syntax) is (urgent and "^" not in priority)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_priority_after_the_request_attributes_is_read_as_well(syntax: str) -> None:
    for undefined in (False, True):
        instance = requested("ROUTINE", undefined)
        instance.RequestedProcedurePriority = "STAT"
        assert is_urgent(instance, syntax)


def test_a_priority_elsewhere_is_ignored() -> None:
    instance, other = make_instance("1.2.3"), Dataset()
    other.RequestedProcedurePriority = "STAT"
    instance.ReferencedPerformedProcedureStepSequence = [other]
    instance.ReferencedStudySequence = [other]
    assert not is_urgent(instance)


@pytest.mark.parametrize(
    "rest",
    [
        struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFF0),
        struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF),
        struct.pack("<HH2sHLHHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * 99,
        struct.pack("<HH2sH", 0x0040, 0x1003, b"SH", 0xFFFF) + b"STAT",
        struct.pack("<HH2sHL", 0x0032, 0x000C, b"UN", 0, 0xFFFFFFFE),
        b"\xfe\xff\x0d\xe0" * 1000,
        b"\x40",
    ],
)
def test_invalid_data_after_the_uids_is_not_refused(rest: bytes) -> None:
    instance = make_instance("1.2.3")
    for element in list(instance):
        if element.tag > 0x0020000E:
            del instance[element.tag]
    head = read_head(BytesIO(encoded(instance, ExplicitVRLittleEndian) + rest), ExplicitVRLittleEndian)
    assert head.key == InstanceKey("1.2.3", "1.2.3.1", instance.SOPInstanceUID)


def test_a_study_is_marked_urgent_before_the_c_store_response(make_listener: MakeListener) -> None:
    usual, by_header, by_sender = (make_instance(new_study_uid()) for _ in range(3))
    by_header.RequestedProcedurePriority = "STAT"
    listener = make_listener(urgent_ae_titles=("SENDER",))
    assert send(listener.port, usual, by_header) == [0x0000] * 2  # as SCANNER
    with association(listener.port) as peer:
        assert peer.send_c_store(by_sender).Status == 0x0000
    marked = [listener.archive.is_urgent(each.StudyInstanceUID) for each in (usual, by_header, by_sender)]
    assert marked == [False, True, True]
    assert {study: len(listener.archive.files(study)) for study in listener.archive.studies()} == {
        each.StudyInstanceUID: 1 for each in (usual, by_header, by_sender)
    }


class RecordingQueue:
    """Record the jobs that are added."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def held_studies(self) -> frozenset[str]:
        return frozenset()

    def add(self, job: Job) -> Job | None:
        self.jobs.append(job)
        return job if len(self.jobs) == 1 else None


def test_a_study_that_becomes_urgent_is_added_to_the_queue_again(tmp_path: Path) -> None:
    archive, queue = EmbeddedArchive(tmp_path / "archive", 0), RecordingQueue()
    archive.open()
    incoming = archive.create_file()
    incoming.write(encode_file_meta("1.2.840.10008.5.1.4.1.1.4", "1.1.1.1", ExplicitVRLittleEndian))
    archive.store(InstanceKey("1.1", "1.1.1", "1.1.1.1"), incoming)
    reconciler = Reconciler(archive, queue, StudySettings(), "m")  # type: ignore[arg-type]
    for _ in range(2):
        reconciler.touch("1.1")
        reconciler.poll(1e12, 1e12)
    archive.mark_urgent("1.1")
    for _ in range(2):
        reconciler.touch("1.1")
        reconciler.poll(1e12, 1e12)
    assert [job.urgent for job in queue.jobs] == [False, True]
    assert queue.jobs[0].key == queue.jobs[1].key


def test_a_study_restored_from_an_interrupted_purge_stays_urgent(tmp_path: Path, database: object) -> None:
    archive = EmbeddedArchive(tmp_path / "archive", 0)
    archive.open()
    (tmp_path / "archive" / "1.1" / "1.1.1").mkdir(parents=True)
    (tmp_path / "archive" / "1.1" / "1.1.1" / "1.dcm").touch()
    archive.mark_urgent("1.1")
    (tmp_path / "purging").mkdir()
    (tmp_path / "archive" / "1.1").rename(tmp_path / "purging" / "1.1")
    Purger(tmp_path, database.pool).finish_interrupted()  # type: ignore[attr-defined]
    assert archive.is_urgent("1.1")
    assert len(archive.files("1.1")) == 1


def test_an_urgent_study_is_segmented_before_queued_ones(make_node: Callable[..., NodeInThread]) -> None:
    node = make_node().start("hold")
    counts = (4, 2, 5)  # of images, by which the stand-in's log tells the studies apart
    running, waiting, urgent = (
        [make_instance(study, number=number) for number in range(count)]
        for study, count in zip((new_study_uid() for _ in counts), counts, strict=True)
    )
    urgent[3].RequestedProcedurePriority = "STAT"
    send(node.port, *running)
    wait_until((node.controls / "log").exists, "the first one has started")
    send(node.port, *waiting)
    wait_until(lambda: node.jobs_are(running=1, queued=1), "the second waits")
    send(node.port, *urgent)
    wait_until(lambda: node.jobs_are(running=1, queued=2), "the urgent one waits as well")
    assert node.status().urgent_waiting == 1
    (node.controls / "hold").unlink()
    wait_until(lambda: node.jobs_are(segmented=3), "all are done")
    order = [int(line.split()[1]) for line in (node.controls / "log").read_text().splitlines()]
    assert order == [4, 5, 2]
