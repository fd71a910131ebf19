import resource

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RawDataStorage

from dicom_seg.write import write_dicom
from pipeline.errors import OutputRefused


@pytest.fixture
def dataset():
    dataset = Dataset()
    dataset.SOPClassUID = RawDataStorage
    dataset.SOPInstanceUID = "2.25.1"
    dataset.PatientID = "x" * 60
    dataset.EncapsulatedDocument = bytes(20_000)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


@pytest.fixture
def small_files():
    """Limit files of this process to 4 kB, which acts like a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_written_file_can_be_read_and_no_other_file_remains(dataset, tmp_path):
    write_dicom(dataset, tmp_path / "a.dcm")
    assert dcmread(tmp_path / "a.dcm").SOPInstanceUID == "2.25.1"
    assert [path.name for path in tmp_path.iterdir()] == ["a.dcm"]


def test_a_written_file_survives_a_power_cut(dataset, tmp_path, durable_disk):
    disk = durable_disk(tmp_path)
    write_dicom(dataset, tmp_path / "a.dcm")
    assert disk.after_power_cut() == {"a.dcm": (tmp_path / "a.dcm").read_bytes()}


def test_an_existing_file_is_replaced(dataset, tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"older")
    write_dicom(dataset, tmp_path / "a.dcm")
    assert dcmread(tmp_path / "a.dcm").SOPInstanceUID == "2.25.1"


def test_a_full_disk_leaves_the_old_file_and_no_partial_one(dataset, tmp_path, small_files):
    (tmp_path / "a.dcm").write_bytes(b"older")
    with pytest.raises(OutputRefused, match=r"a\.dcm cannot be written") as caught:
        write_dicom(dataset, tmp_path / "a.dcm")
    assert isinstance(caught.value.__cause__, OSError)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.dcm", b"older")]


def test_a_missing_folder_is_named(dataset, tmp_path):
    with pytest.raises(OutputRefused, match="nowhere"):
        write_dicom(dataset, tmp_path / "nowhere" / "a.dcm")
