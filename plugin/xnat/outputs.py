"""Arrange a study's results in the folders from which `command.json` tells XNAT to import them.

results/                  all results with report.json; becomes a resource of the session
scan-seg/, scan-sr/       scan.xml and DICOM/; each becomes a scan
assessor/                 assessor.xml and SEG/; becomes the ROI collection that XNAT's viewer lists

The assessor is an ROI collection (icr:RoiCollection, of XNAT's OHIF viewer plugin), which that viewer lists and draws.
XNAT itself has no type that fits: xnat:imageAssessorData is only the base type of assessors and has no element of its
own, and xnat:QCManualAssessment says that a person assessed the images. XML elements are in the order of xnat.xsd and
roi.xsd.
"""

import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

from pydicom import Dataset, dcmread

from pipeline.errors import OutputRefused
from plugin.archive.report import OutputReport, Report
from plugin.xnat.session import XNAT, XnatIds

RESULTS = "results"
_SCAN_SEG, _SCAN_SR, _ASSESSOR = "scan-seg", "scan-sr", "assessor"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
_ICR = "http://icr.ac.uk/icr"


def remove_outputs(out: Path) -> None:
    """Remove the scans and the assessor of an earlier run, so that XNAT does not import them again.

    The folder `results` is replaced by segmentation itself.
    """
    for name in (_SCAN_SEG, _SCAN_SR, _ASSESSOR):
        if (out / name).exists():
            shutil.rmtree(out / name)


def write_outputs(report: Report, results: Path, out: Path, ids: XnatIds) -> None:
    """Write scans and assessor for the first SEG and the first SR of a study, whose files are in `results`.

    Outputs that need an ID missing in `ids` are left out. Raises OutputRefused.
    """
    try:
        if ids.session_id:
            for name, sop_class in ((_SCAN_SEG, _SEGMENTATION), (_SCAN_SR, _COMPREHENSIVE_3D_SR)):
                if first := _first(report, sop_class):
                    document = _scan_document(_read(results / first.path), ids.session_id)
                    _write(out / name, "scan.xml", document, "DICOM", results / first.path)
        if ids.session_id and ids.project and ids.subject_id and (first := _first(report, _SEGMENTATION)):
            document = _assessor_document(_read(results / first.path), ids)
            _write(out / _ASSESSOR, "assessor.xml", document, "SEG", results / first.path)
    except OSError as exc:
        raise OutputRefused(
            f"The outputs for XNAT cannot be written to {out}: {exc.strerror}. Free some space there or choose "
            f"another folder; the results themselves are in {results}."
        ) from exc


def _first(report: Report, sop_class: str) -> OutputReport | None:
    return next((each for each in report.outputs if each.sop_class_uid == sop_class), None)


def _read(path: Path) -> Dataset:
    return dcmread(path, stop_before_pixels=True)


def _write(folder: Path, document_name: str, document: bytes, resource: str, file: Path) -> None:
    """Write the document last, because XNAT imports nothing without it."""
    (folder / resource).mkdir(parents=True)
    shutil.copyfile(file, folder / resource / file.name)
    (folder / document_name).write_bytes(document)


def _scan_document(dataset: Dataset, session_id: str) -> bytes:
    """Return the XML of a scan. Its ID follows from the object, and XNAT replaces an existing scan of the same ID."""
    modality = str(dataset.Modality)
    attributes = {
        "ID": f"glionode-{int(dataset.SeriesNumber)}",
        "type": f"glionode {modality}",
        "UID": str(dataset.SeriesInstanceUID),
    }
    element = {"SEG": "SegScan", "SR": "SRScan"}[modality]
    root = ElementTree.Element(f"{{{XNAT}}}{element}", attributes)
    _add(root, XNAT, "image_session_ID", session_id)
    _add(root, XNAT, "series_description", str(dataset.SeriesDescription))
    _add(root, XNAT, "modality", modality)
    return _serialised(root)


def _assessor_document(dataset: Dataset, ids: XnatIds) -> bytes:
    """Return the XML of a SEG's ROI collection.

    Its ID depends only on session and SEG, so that a second run replaces it.
    """
    uid = str(dataset.SOPInstanceUID)
    created = datetime.strptime(f"{dataset.ContentDate}{str(dataset.ContentTime)[:6]}", "%Y%m%d%H%M%S")
    key = sha256(f"{ids.session_id} {uid}".encode()).hexdigest()[:12]
    attributes = {
        "ID": f"RoiCollection_glionode_{key}",
        "project": ids.project,
        "label": f"glionode_{ids.session_id}_{key}",
    }
    root = ElementTree.Element(f"{{{_ICR}}}RoiCollection", attributes)
    _add(root, XNAT, "date", created.strftime("%Y-%m-%d"))
    _add(root, XNAT, "time", created.strftime("%H:%M:%S"))
    _add(root, XNAT, "imageSession_ID", ids.session_id)
    _add(root, _ICR, "UID", uid)
    _add(root, _ICR, "collectionType", "SEG")
    _add(root, _ICR, "subjectID", ids.subject_id)
    references = ElementTree.SubElement(root, f"{{{_ICR}}}references")
    for series in dataset.get("ReferencedSeriesSequence", []):
        _add(references, _ICR, "seriesUID", str(series.SeriesInstanceUID))
    _add(root, _ICR, "name", str(dataset.SeriesDescription))
    return _serialised(root)


def _add(parent: ElementTree.Element, namespace: str, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{namespace}}}{name}").text = text


def _serialised(root: ElementTree.Element) -> bytes:
    ElementTree.register_namespace("xnat", XNAT)
    ElementTree.register_namespace("icr", _ICR)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
