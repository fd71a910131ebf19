"""Data sets in Implicit VR, as pydicom and DCMTK read them, and damaged ones."""

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from plugin.dimse.implicit_vr import NotConvertible, implicit_vr_dataset, to_implicit_vr
from tests.support.node import make_instance, new_study_uid

NAME = "Śmiesznie^Ąę".encode("cp1250")
"""Bytes that the character set of the data set does not allow."""


def nested(undefined: bool) -> Dataset:
    made = make_instance(new_study_uid())
    made.SpecificCharacterSet = "ISO_IR 192"
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    outer.ConceptNameCodeSequence = [inner, Dataset()]
    outer.TextValue = "x" * 70_000
    made.ContentSequence = [outer]
    made.ReferencedImageSequence = []
    made.add_new(0x00091001, "OB", b"\1\2\3\4")
    if undefined:
        for each in (made["ContentSequence"], outer["ConceptNameCodeSequence"]):
            each.is_undefined_length = True
        outer.is_undefined_length_sequence_item = True
    return made


def explicit(dataset: Dataset) -> bytes:
    return encode(dataset, is_implicit_vr=False, is_little_endian=True) or b""


@pytest.mark.parametrize("undefined", [False, True])
def test_every_value_is_kept_byte_for_byte(undefined: bool) -> None:
    made = nested(undefined)
    plain = explicit(made).replace(b"MARKERxPHI^NAME ", NAME.ljust(16))
    converted = implicit_vr_dataset(plain)
    assert converted.get_item("PatientName").value == NAME.ljust(16)
    assert encode(converted, True, True) == to_implicit_vr(plain), "pynetdicom writes it as it is"
    expected = encode(made, is_implicit_vr=True, is_little_endian=True)
    assert expected is not None
    if not undefined:  # else pydicom writes undefined lengths, too
        assert to_implicit_vr(explicit(made)) == expected
    del converted.PatientName, made.PatientName
    assert converted.to_json_dict() == made.to_json_dict() | {"00091001": {"vr": "UN", "InlineBinary": "AQIDBA=="}}


def test_dcmtk_reads_the_same(program: Callable[[str], str], tmp_path: Path) -> None:
    made = implicit_vr_dataset(explicit(nested(undefined=True)))
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    buffer = BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    (tmp_path / "implicit.dcm").write_bytes(buffer.getvalue())
    back = tmp_path / "explicit.dcm"
    subprocess.run([program("dcmconv"), "+te", tmp_path / "implicit.dcm", back], check=True, timeout=60)
    found = dcmread(back)
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.ContentSequence[0].TextValue == "x" * 70_000
    assert found.PixelData == made.PixelData


def test_damaged_data_sets_are_not_converted() -> None:
    whole = explicit(nested(undefined=False))
    assert to_implicit_vr(b"") == b""
    for cut in (1, 5, 7, 12):
        with pytest.raises(NotConvertible):
            to_implicit_vr(whole[:-cut])
    header = b"\x40\x00\x30\xa7SQ\0\0"
    for damaged in (
        header + b"\x08\0\0\0" + b"\x08\0\x05\0CS\0\0",  # no item
        header + b"\x08\0\0\0" + b"\xfe\xff\x00\xe0\x10\0\0\0" + bytes(16),  # an item longer than its sequence
        b"\x09\0\x01\x10UN\0\0\xff\xff\xff\xff",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        (header + b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff") * 100,
    ):
        with pytest.raises(NotConvertible):
            to_implicit_vr(damaged)
