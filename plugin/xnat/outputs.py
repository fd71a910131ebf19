"""Lay a study's results out as `command.json` tells XNAT to take them in. Computes nothing.

results/                  everything, and report.json: a resource of the session
scan-seg/, scan-sr/       scan.xml and DICOM/: a scan each
assessor/                 assessor.xml and SEG/: the ROI collection that XNAT's viewer lists
"""

import shutil
from datetime import datetime
from pathlib import Path

from pydicom import dcmread

from pipeline.errors import OutputRefused
from plugin.archive.report import OutputReport, Report
from plugin.xnat.documents import Place, Result, assessor_document, scan_document

RESULTS = "results"
_SCAN_SEG, _SCAN_SR, _ASSESSOR = "scan-seg", "scan-sr", "assessor"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


def clear(out: Path) -> None:
    """Remove what an earlier run laid out, so that XNAT never takes it for this one's. `results` looks after itself."""
    for name in (_SCAN_SEG, _SCAN_SR, _ASSESSOR):
        if (out / name).exists():
            shutil.rmtree(out / name)


def lay_out(report: Report, results: Path, out: Path, place: Place) -> None:
    """Lay out the first SEG and the first SR of a study, whose files lie in `results`.

    What `place` does not say leaves out what needs it. Raises OutputRefused.
    """
    try:
        if place.session_id:
            for name, sop_class in ((_SCAN_SEG, _SEGMENTATION), (_SCAN_SR, _COMPREHENSIVE_3D_SR)):
                if first := _first(report, sop_class):
                    document = scan_document(_result(results / first.path), place.session_id)
                    _put(out / name, "scan.xml", document, "DICOM", results / first.path)
        if place.session_id and place.project and place.subject_id and (first := _first(report, _SEGMENTATION)):
            document = assessor_document(_result(results / first.path), place)
            _put(out / _ASSESSOR, "assessor.xml", document, "SEG", results / first.path)
    except OSError as exc:
        raise OutputRefused(
            f"The results for XNAT cannot be laid out in {out}: {exc.strerror}. Free some space there or choose "
            f"another folder; what was computed lies in {results}."
        ) from exc


def _first(report: Report, sop_class: str) -> OutputReport | None:
    return next((each for each in report.outputs if each.sop_class_uid == sop_class), None)


def _put(folder: Path, document_name: str, document: bytes, resource: str, file: Path) -> None:
    """The document comes last: XNAT makes nothing without it."""
    (folder / resource).mkdir(parents=True)
    shutil.copyfile(file, folder / resource / file.name)
    (folder / document_name).write_bytes(document)


def _result(path: Path) -> Result:
    dataset = dcmread(path, stop_before_pixels=True)
    referenced = [str(each.SeriesInstanceUID) for each in dataset.get("ReferencedSeriesSequence", [])]
    made = f"{dataset.ContentDate}{str(dataset.ContentTime)[:6]}"
    return Result(
        modality=str(dataset.Modality),
        series_number=int(dataset.SeriesNumber),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_description=str(dataset.SeriesDescription),
        made=datetime.strptime(made, "%Y%m%d%H%M%S"),
        referenced_series=tuple(referenced),
    )
