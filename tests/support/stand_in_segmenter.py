"""A segmenter for tests: it writes two small DICOM files with UIDs derived from the study's, and computes nothing.

Files in the folder `orders` tell it what else to do: `die` ends the worker as long as it has a line, one line a time;
`hang` makes it hang in the same way; `hold` makes it wait until the file is gone; `slow` makes it take so many seconds;
`fail` makes it raise; `broken` keeps it from loading.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from plugin.jobs.prior_results import PriorResults
from plugin.worker.job_runner import OnStep, StudyOutcome

OUTPUT_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34")


class StandIn:
    def __init__(self, orders: Path) -> None:
        self.orders = orders

    def __call__(self, files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
        with (self.orders / "log").open("a") as log:
            log.write(f"{os.getpid()} {len(files)}\n")
        if self._ordered("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        on_step("segment")
        if self._ordered("hang"):
            time.sleep(120)
        deadline = time.monotonic() + 60
        while (self.orders / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        first = dcmread(files[0], stop_before_pixels=True)
        study = str(first.StudyInstanceUID)
        if (self.orders / "slow").exists():
            time.sleep(float((self.orders / "slow").read_text()))
        if (self.orders / "fail").exists():
            raise ValueError(f"{first.PatientName} is no number")
        if len(files) == 1:
            return StudyOutcome("not_eligible", "There is no ADC map.", ())
        out.mkdir(parents=True)
        outputs = tuple(
            self._write(study, number, sop_class, out) for number, sop_class in enumerate(OUTPUT_CLASSES, start=1)
        )
        series = {"series_instance_uid": f"{study}.1", "series_description": "MARKERxPHI series", "why": ["MARKERxPHI"]}
        written = [{"path": path.name, "sop_class_uid": OUTPUT_CLASSES[n]} for n, path in enumerate(outputs)]
        (out / "report.json").write_text(json.dumps({"roles": {"T1CE": series}, "outputs": written}))
        return StudyOutcome("segmented", None, outputs)

    def _ordered(self, what: str) -> bool:
        order = self.orders / what
        lines = order.read_text().splitlines() if order.exists() else []
        if lines:
            order.write_text("\n".join(lines[1:]))
        return bool(lines)

    def _write(self, study: str, number: int, sop_class: str, out: Path) -> Path:
        made = Dataset()
        made.SOPClassUID = sop_class
        made.SOPInstanceUID = f"{study}.99.{number}"
        made.StudyInstanceUID = study
        made.SeriesInstanceUID = f"{study}.98.{number}"
        made.PatientName = "MARKERxPHI^NAME"
        made.PatientID = "MARKERxPHI-ID"  # Orthanc tells studies apart by it, too
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = out / f"{number}.dcm"
        buffer = BytesIO()
        dcmwrite(buffer, made, enforce_file_format=True)
        path.write_bytes(buffer.getvalue())
        return path


def make_stand_in(orders: Path) -> StandIn:
    if (orders / "broken").exists():
        raise OSError("the weights are gone")
    return StandIn(orders)
