"""A segmenter for tests: it writes two small DICOM files with UIDs derived from the study's, and computes nothing.

Files in the folder `controls` change what it does: `die` kills the worker, once for each line of the file; `hang` makes
a job hang, once for each line; `hold` makes jobs wait until the file is removed; `slow` has the seconds a job takes;
`fail` makes jobs raise an exception; `broken` prevents loading; `by_start` makes UIDs depend on the start of the
analysis, as those of the real one do. Each run adds a line to the file `log`.
"""

import json
import os
import signal
import time
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

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
        out.mkdir(parents=True)
        by_start = (self.controls / "by_start").exists()
        of_start = f"{int(prior_results.started.timestamp() * 1e6) % 10**8}." if by_start else ""
        outputs = tuple(
            self._write(first, of_start, number, sop_class, out)
            for number, sop_class in enumerate(OUTPUT_CLASSES, start=1)
        )
        series = {"series_instance_uid": f"{study}.1", "series_description": "MARKERxPHI series", "why": ["MARKERxPHI"]}
        written = [{"path": path.name, "sop_class_uid": OUTPUT_CLASSES[n]} for n, path in enumerate(outputs)]
        (out / "report.json").write_text(json.dumps({"roles": {"T1CE": series}, "outputs": written}))
        return StudyOutcome("segmented", None, outputs)

    def _remove_line(self, name: str) -> bool:
        """Remove the first line of a control file. Return whether there was one."""
        control = self.controls / name
        lines = control.read_text().splitlines() if control.exists() else []
        if lines:
            control.write_text("\n".join(lines[1:]))
        return bool(lines)

    def _write(self, first: Dataset, of_start: str, number: int, sop_class: str, out: Path) -> Path:
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
        path = out / f"{number}.dcm"
        buffer = BytesIO()
        dcmwrite(buffer, made, enforce_file_format=True)
        path.write_bytes(buffer.getvalue())
        return path


def make_stand_in(controls: Path) -> StandIn:
    if (controls / "broken").exists():
        raise OSError("the weights are missing")
    return StandIn(controls)
