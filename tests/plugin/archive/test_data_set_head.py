"""The head of a received data set is read in bounded time and memory, whatever stands before its UIDs."""

import struct
import time
import tracemalloc
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from plugin.archive import data_set_head
from plugin.archive.data_set_head import NotADataSet, read_head
from tests.support.hostile_dicom import SYNTAXES, encoded
from tests.support.node import make_instance

UNDEFINED = 0xFFFFFFFF
SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x0006, b"SQ", 0, UNDEFINED)
ITEM, ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
OPEN_VALUE = struct.pack("<HH2sHL", 0x0008, 0x0009, b"OB", 0, UNDEFINED)


def with_references(count: int) -> Dataset:
    """Return an instance that refers to many others before its own UIDs."""
    instance = make_instance("1.2.3")
    references = []
    for number in range(count):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
            "1.2.840.10008.5.1.4.1.1.4",
            f"1.2.{number}",
        )
        reference.is_undefined_length_sequence_item = True
        references.append(reference)
    instance.ReferencedImageSequence = references
    instance["ReferencedImageSequence"].is_undefined_length = True
    instance.RequestedProcedurePriority = "STAT"
    return instance


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_five_thousand_references_before_the_uids_are_passed_over(syntax: str) -> None:
    instance = with_references(5000)
    head = read_head(BytesIO(encoded(instance, syntax)), syntax)
    assert head.key.sop_instance_uid == instance.SOPInstanceUID
    assert head.urgent


@pytest.mark.parametrize(
    "elements",
    [
        SEQUENCE + (ITEM + SEQUENCE) * 100_000,
        SEQUENCE + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 300_000,
        SEQUENCE + (ITEM + OPEN_VALUE + ITEM_END) * 50_000,
        SEQUENCE + ITEM + struct.pack("<HH2sHL", 0x0008, 0x0009, b"OB", 0, 0xFFFFFFF0) + bytes(1 << 25),
    ],
    ids=["nested without end", "many items", "many values without end", "a long value"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # as in the node: pydicom warns of a value without end
def test_costly_elements_before_the_uids_are_refused(elements: bytes) -> None:
    content = BytesIO(elements + encoded(make_instance("1.2.3"), ExplicitVRLittleEndian))
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(NotADataSet):
        read_head(content, ExplicitVRLittleEndian)
    assert time.monotonic() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 160 << 20
    tracemalloc.stop()


def test_memory_is_bounded_by_the_number_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_set_head, "_MOST_READS", 10_000)
    # In implicit encoding an empty item, of 8 bytes, takes one read; pydicom makes a Dataset of it.
    items = struct.pack("<HHL", 0x0008, 0x1140, UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 100_000
    tracemalloc.start()
    with pytest.raises(NotADataSet):
        read_head(BytesIO(items + encoded(make_instance("1.2.3"), ImplicitVRLittleEndian)), ImplicitVRLittleEndian)
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


def test_costly_elements_after_the_uids_make_nothing_urgent_and_refuse_nothing() -> None:
    instance = make_instance("1.2.3")
    for element in list(instance):
        if element.tag > 0x0020000E:
            del instance[element.tag]
    attributes = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, UNDEFINED) + (ITEM + SEQUENCE) * 100_000
    head = read_head(BytesIO(encoded(instance, ExplicitVRLittleEndian) + attributes), ExplicitVRLittleEndian)
    assert not head.urgent
    assert head.key.sop_instance_uid == instance.SOPInstanceUID
