"""Arrange a study's results in the folders from which `command.json` tells XNAT to import them.

results/                  all results with report.json; becomes a resource of the session
scan-seg/, scan-sr/       scan.xml and DICOM/; each becomes a scan
assessor/                 assessor.xml and SEG/; becomes the ROI collection that XNAT's viewer lists
"""

import shutil
from datetime import datetime
from pathlib import Path

from pydicom import dcmread

from pipeline.errors import OutputRefused
from plugin.archive.report import OutputReport, Report
from plugin.xnat.documents import ResultObject, assessor_document, scan_document
from plugin.xnat.session import XnatIds

RESULTS = "results"
_SCAN_SEG, _SCAN_SR, _ASSESSOR = "scan-seg", "scan-sr", "assessor"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


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
                    document = scan_document(_read(results / first.path), ids.session_id)
                    _write(out / name, "scan.xml", document, "DICOM", results / first.path)
        if ids.session_id and ids.project and ids.subject_id and (first := _first(report, _SEGMENTATION)):
            document = assessor_document(_read(results / first.path), ids)
            _write(out / _ASSESSOR, "assessor.xml", document, "SEG", results / first.path)
    except OSError as exc:
        raise OutputRefused(
            f"The outputs for XNAT cannot be written to {out}: {exc.strerror}. Free some space there or choose "
            f"another folder; the results themselves are in {results}."
        ) from exc


def _first(report: Report, sop_class: str) -> OutputReport | None:
    return next((each for each in report.outputs if each.sop_class_uid == sop_class), None)


def _write(folder: Path, document_name: str, document: bytes, resource: str, file: Path) -> None:
    """Write the document last, because XNAT imports nothing without it."""
    (folder / resource).mkdir(parents=True)
    shutil.copyfile(file, folder / resource / file.name)
    (folder / document_name).write_bytes(document)


def _read(path: Path) -> ResultObject:
    dataset = dcmread(path, stop_before_pixels=True)
    referenced = [str(each.SeriesInstanceUID) for each in dataset.get("ReferencedSeriesSequence", [])]
    created = f"{dataset.ContentDate}{str(dataset.ContentTime)[:6]}"
    return ResultObject(
        modality=str(dataset.Modality),
        series_number=int(dataset.SeriesNumber),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_description=str(dataset.SeriesDescription),
        created=datetime.strptime(created, "%Y%m%d%H%M%S"),
        referenced_series=tuple(referenced),
    )
