"""The outputs for XNAT: documents in the order of its schemas, files where command.json expects them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from models.package import IntendedUse
from pipeline.errors import OutputRefused
from pipeline.result import ModelIdentity
from plugin.archive.report import OutputReport, Report, Status
from plugin.xnat.outputs import remove_outputs, write_outputs
from plugin.xnat.session import XnatIds
from tests.support.paths import ROOT

XNAT, ICR = "{http://nrg.wustl.edu/xnat}", "{http://icr.ac.uk/icr}"
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
IDS = XnatIds("XNAT_E1", "GLIOMA", "XNAT_S1")

# The sequences of elements in xnat.xsd and roi.xsd, as far as we use them; a document has them in this order.
SCAN_ELEMENTS = ("image_session_ID", "note", "quality", "condition", "series_description", "documentation", "modality")
ASSESSOR_ELEMENTS = ("date", "time", "imageSession_ID", "UID", "collectionType", "subjectID", "references", "name")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "results"
    folder.mkdir(parents=True)
    for name, modality, sop_class, number in (("seg.dcm", "SEG", SEG, 8001), ("sr.dcm", "SR", SR, 8002)):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"1.2.{number}.1"
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.Modality = f"1.2.{number}", number, modality
        dataset.SeriesDescription = "Ours <&> nobody else's"
        dataset.ContentDate, dataset.ContentTime = "20260102", "030405.678"
        referenced = Dataset()
        referenced.SeriesInstanceUID = "1.2.4"
        dataset.ReferencedSeriesSequence = [referenced]
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / name, dataset, enforce_file_format=True)
    return folder


def report(*outputs: tuple[str, str]) -> Report:
    return Report(
        study_instance_uid="1.2",
        status=Status.SEGMENTED,
        reason=None,
        model=ModelIdentity("phantom-demo", "1.0", "ab" * 32, IntendedUse.DEMONSTRATION),
        device="cpu",
        outputs=tuple(OutputReport(name, sop_class, "1.2.1", "1.2.2", "any") for name, sop_class in outputs),
    )


BOTH = report(("seg.dcm", SEG), ("sr.dcm", SR))


def in_order(root: ElementTree.Element, elements: tuple[str, ...]) -> bool:
    names = [child.tag.partition("}")[2] for child in root]
    return names == sorted(names, key=elements.index)


def test_scans(results: Path) -> None:
    write_outputs(BOTH, results, results.parent, IDS)
    for folder, element, number, file in (
        ("scan-seg", "SegScan", 8001, "seg.dcm"),
        ("scan-sr", "SRScan", 8002, "sr.dcm"),
    ):
        root = ElementTree.parse(results.parent / folder / "scan.xml").getroot()
        assert root.tag == XNAT + element
        assert (root.get("ID"), root.get("UID")) == (f"glionode-{number}", f"1.2.{number}")
        assert root.findtext(XNAT + "image_session_ID") == "XNAT_E1"
        assert root.findtext(XNAT + "series_description") == "Ours <&> nobody else's"
        assert in_order(root, SCAN_ELEMENTS)
        assert (results.parent / folder / "DICOM" / file).read_bytes() == (results / file).read_bytes()


def test_the_roi_collection(results: Path) -> None:
    write_outputs(BOTH, results, results.parent, IDS)
    root = ElementTree.parse(results.parent / "assessor" / "assessor.xml").getroot()
    assert root.tag == ICR + "RoiCollection"
    assert root.get("project") == "GLIOMA"
    assert in_order(root, ASSESSOR_ELEMENTS)
    assert (root.findtext(XNAT + "date"), root.findtext(XNAT + "time")) == ("2026-01-02", "03:04:05")
    assert root.findtext(XNAT + "imageSession_ID") == "XNAT_E1"
    assert root.findtext(ICR + "UID") == "1.2.8001.1"
    assert root.findtext(ICR + "collectionType") == "SEG"
    assert root.findtext(ICR + "subjectID") == "XNAT_S1"
    assert [each.text for each in root.iterfind(f"{ICR}references/{ICR}seriesUID")] == ["1.2.4"]


def test_a_second_run_gives_the_same_ids_and_another_session_others(results: Path) -> None:
    seen = []
    for ids in (IDS, IDS, XnatIds("XNAT_E2", "GLIOMA", "XNAT_S1")):
        remove_outputs(results.parent)
        write_outputs(BOTH, results, results.parent, ids)
        seen.append(ElementTree.parse(results.parent / "assessor" / "assessor.xml").getroot().get("ID"))
    assert seen[0] == seen[1] != seen[2]


def test_outputs_that_need_a_missing_id_are_left_out(results: Path) -> None:
    write_outputs(BOTH, results, results.parent, XnatIds("", "GLIOMA", "XNAT_S1"))
    assert [path.name for path in results.parent.iterdir()] == ["results"]
    write_outputs(BOTH, results, results.parent, XnatIds("XNAT_E1", "GLIOMA", ""))
    assert sorted(path.name for path in results.parent.iterdir()) == ["results", "scan-seg", "scan-sr"]
    remove_outputs(results.parent)
    write_outputs(report(("sr.dcm", SR)), results, results.parent, IDS)
    assert sorted(path.name for path in results.parent.iterdir()) == ["results", "scan-sr"]


def test_files_are_where_the_command_expects_them(results: Path) -> None:
    write_outputs(BOTH, results, results.parent, IDS)
    command = json.loads((ROOT / "plugin/xnat/command.json").read_text())
    paths = {output["path"]: results.parent / output["path"] for output in command["outputs"]}
    assert all(path.exists() for path in paths.values()), paths
    # Container Service imports a single file as the document, and the contents of a folder as a resource.
    assert all(path.is_file() if name.endswith(".xml") else any(path.iterdir()) for name, path in paths.items())


def test_a_folder_that_cannot_be_written_is_an_error(results: Path) -> None:
    (results.parent / "scan-seg").write_text("in the way")
    with pytest.raises(OutputRefused, match=r"cannot be written to .*; the results themselves are in"):
        write_outputs(BOTH, results, results.parent, IDS)
