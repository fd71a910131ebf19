"""A segmenter for tests: it writes two small DICOM files with UIDs derived from the study's, and computes nothing.

Files in the folder `controls` change what it does: `die` kills the worker, once for each line of the file; `hang` makes
a job hang, once for each line; `hold` makes jobs wait until the file is removed; `slow` has the seconds a job takes;
`fail` makes jobs raise an exception; `broken` prevents loading; `by_start` makes UIDs depend on the start of the
analysis, as those of the real one do. Each run adds a line to the file `log`.
"""

import hashlib
import os
import signal
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_seg.encode import EncodedObject
from dicom_seg.write import as_bytes
from models.labels import Role
from models.package import IntendedUse
from pipeline.result import ModelIdentity
from plugin.archive.report import OutputReport, Report, RoleReport, Status
from plugin.archive.result_folder import write_results
from plugin.jobs.prior_results import PriorResults
from plugin.worker.job_runner import OnStep, StudyOutcome

OUTPUT_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34")


_PATIENT_ID = "MARKERxPHI-ID"
"""Of test instances; the results of other patients have other UIDs."""


class StandIn:
    def __init__(self, controls: Path) -> None:
        self.controls = controls

    def __call__(self, files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
        with (self.controls / "log").open("a") as log:
            log.write(f"{os.getpid()} {len(files)}\n")
        if self._remove_line("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        on_step("segment")
        if self._remove_line("hang"):
            time.sleep(120)
        deadline = time.monotonic() + 60
        while (self.controls / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        first = dcmread(files[0], stop_before_pixels=True)
        study = str(first.StudyInstanceUID)
        if (self.controls / "slow").exists():
            time.sleep(float((self.controls / "slow").read_text()))
        if (self.controls / "fail").exists():
            raise ValueError(f"{first.PatientName} is no number")
        if len(files) == 1:
            return StudyOutcome("not_eligible", "There is no ADC map.", ())
        by_start = (self.controls / "by_start").exists()
        of_start = f"{int(prior_results.started.timestamp() * 1e6) % 10**8}." if by_start else ""
        made = tuple(
            _make(first, of_start, number, sop_class) for number, sop_class in enumerate(OUTPUT_CLASSES, start=1)
        )
        write_results(_report(study, made, prior_results), made, out)
        return StudyOutcome("segmented", None, tuple(out / each.file_name for each in made))

    def _remove_line(self, name: str) -> bool:
        """Remove the first line of a control file. Return whether there was one."""
        control = self.controls / name
        lines = control.read_text().splitlines() if control.exists() else []
        if lines:
            control.write_text("\n".join(lines[1:]))
        return bool(lines)


def _make(first: Dataset, of_start: str, number: int, sop_class: str) -> EncodedObject:
    made, study = Dataset(), str(first.StudyInstanceUID)
    made.SOPClassUID = sop_class
    usual = first.PatientID == _PATIENT_ID
    of_patient = "" if usual else f"{zlib.crc32(str(first.PatientID).encode()) % 10000}."
    made.SOPInstanceUID = f"{study}.99.{of_patient}{of_start}{number}"
    made.StudyInstanceUID = study
    made.SeriesInstanceUID = f"{study}.98.{number}"
    made.PatientName = "MARKERxPHI^NAME"
    made.PatientID = first.PatientID  # Orthanc identifies studies by it, too
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return EncodedObject(made, f"{number}.dcm", sop_class, "", as_bytes(made))


def _report(study: str, made: Sequence[EncodedObject], prior_results: PriorResults) -> Report:
    return Report(
        study,
        Status.SEGMENTED,
        None,
        ModelIdentity("stand-in", "1", "0" * 64, IntendedUse.RESEARCH),
        "cpu",
        roles=(RoleReport(Role.T1CE, f"{study}.1", "MARKERxPHI series", ("MARKERxPHI",)),),
        outputs=tuple(
            OutputReport(
                *(each.file_name, each.sop_class_uid, each.dataset.SOPInstanceUID, f"{study}.98.{number}", ""),
                hashlib.sha256(each.content).hexdigest(),
            )
            for number, each in enumerate(made, start=1)
        ),
        analysis_started_at=prior_results.started,
        job=prior_results.job,
    )


def make_stand_in(controls: Path) -> StandIn:
    if (controls / "broken").exists():
        raise OSError("the weights are missing")
    return StandIn(controls)
