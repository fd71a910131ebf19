"""The head of a file, read back by pydicom and by ourselves."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from plugin.archive.file_meta import IMPLEMENTATION_CLASS_UID, encode_file_meta, read_sop_class_uid

MR, INSTANCE = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"


@pytest.mark.parametrize("sop_class", [MR, "1.2", "1." * 31 + "22"])
def test_pydicom_and_our_reader_read_it_back(tmp_path: Path, sop_class: str) -> None:
    content = encode_file_meta(sop_class, INSTANCE, JPEG2000Lossless)
    meta = dcmread(BytesIO(content)).file_meta
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == INSTANCE
    assert meta.TransferSyntaxUID == JPEG2000Lossless
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    # PS3.10 table 7.1-1: the length counts from the element after it to the end of the group.
    assert meta.FileMetaInformationGroupLength == len(content) - 128 - 4 - 12
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    assert read_sop_class_uid(path) == sop_class


@pytest.mark.parametrize("content", [b"", b"DICM", b"\0" * 128 + b"DICM", b"x" * 1000])
def test_other_files_have_no_sop_class(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    assert read_sop_class_uid(path) == ""
