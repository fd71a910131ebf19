"""The folder of a study has all results or stays as it was, whatever the disk does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from dicom_seg.encode import EncodedObject
from models.package import IntendedUse
from pipeline.errors import OutputRefused
from pipeline.result import ModelIdentity
from plugin.archive.report import OutputReport, Report, Status
from plugin.archive.result_folder import write_results
from tests.support.durable_disk import DurableDisk

MODEL = ModelIdentity("m", "1", "0" * 64, IntendedUse.DEMONSTRATION)


def encoded(name: str) -> EncodedObject:
    dataset = Dataset()
    dataset.SOPClassUID = SegmentationStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return EncodedObject(dataset, name, str(SegmentationStorage), "SEG")


def report(*names: str) -> Report:
    outputs = tuple(OutputReport(name, str(SegmentationStorage), "1.2.3", "1.2", "SEG") for name in names)
    return Report("1.2", Status.SEGMENTED, None, MODEL, "cpu", outputs=outputs)


def test_objects_and_report_are_written_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    write_results(report("seg.dcm"), [encoded("seg.dcm")], out)
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "seg.dcm"]
    assert dcmread(out / "seg.dcm").SOPInstanceUID == "1.2.3"
    assert json.loads((out / "report.json").read_text())["outputs"][0]["path"] == "seg.dcm"


def test_results_and_the_folders_made_for_them_survive_a_power_cut(
    tmp_path: Path, durable_disk: Callable[[Path], DurableDisk]
) -> None:
    disk = durable_disk(tmp_path)
    write_results(report("seg.dcm"), [encoded("seg.dcm")], tmp_path / "a" / "b")
    left = disk.after_power_cut()
    made = {f"a/b/{path.name}": path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()}
    assert len(made) == 2
    assert {path: left.get(path) for path in made} == made


def test_a_new_report_replaces_the_old_one_and_its_files(tmp_path: Path) -> None:
    write_results(report("seg.dcm", "sr.dcm"), [encoded("seg.dcm"), encoded("sr.dcm")], tmp_path)
    (tmp_path / "mine.txt").write_text("a file of somebody else")
    write_results(Report("1.2", Status.NOT_ELIGIBLE, "no ADC map", MODEL, "cpu"), [], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "report.json"]


def test_files_outside_of_the_folder_are_not_removed(tmp_path: Path) -> None:
    outside = tmp_path / "precious.dcm"
    outside.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text(json.dumps({"outputs": [{"path": "../precious.dcm"}, {"path": str(outside)}]}))
    write_results(report(), [], out)
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"outputs": [1]}', "\x00"])
def test_a_damaged_old_report_is_replaced(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "report.json").write_text(damaged)
    write_results(report(), [], tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["study_instance_uid"] == "1.2"


def test_a_failure_between_the_objects_leaves_the_old_result_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(report("seg.dcm"), [encoded("seg.dcm")], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("plugin.archive.result_folder.write_file", full)
    with pytest.raises(OutputRefused, match=r"No space left on device.*nothing half-written"):
        write_results(report("seg.dcm", "sr.dcm"), [encoded("seg.dcm"), encoded("sr.dcm")], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputRefused, match=str(tmp_path / "out")):
        write_results(report(), [], tmp_path / "out")
