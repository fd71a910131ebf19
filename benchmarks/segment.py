"""Measure the seconds of each step and the peak memory of `glionode segment`, for a phantom and for studies on disk.

    python -m benchmarks.segment [STUDY ...] [--repeats 3] [--json FILE]

Each run is a process of its own, so that its peak memory is measured alone. "process" includes loading the model, the
steps do not. The table shows medians. Dice is computed against truth_t1ce.nii.gz beside a study's dicom folder, if any.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from tests.support.programs import GLIONODE


@dataclass(frozen=True)
class Run:
    """The measurements of one run over one study."""

    steps_s: dict[str, float]
    process_s: float
    peak_mib: float
    dice: dict[str, float]


@dataclass(frozen=True)
class Row:
    """All runs over one study."""

    study: str
    device: str
    runs: tuple[Run, ...]

    def median(self, step: str) -> float:
        """Return the median seconds of a step."""
        return statistics.median(run.steps_s[step] for run in self.runs)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, help="folders with a `dicom` folder, or of DICOM files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        phantom = Path(work) / "phantom"
        subprocess.run([*GLIONODE, "phantom", str(phantom)], check=True, stdout=subprocess.DEVNULL)
        studies = [("phantom", phantom), *((study.resolve().name, study) for study in options.studies)]
        rows = [measure(name, study, options.repeats, options.device, Path(work)) for name, study in studies]
    print_table(rows)
    if options.json:
        document = {"machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def measure(name: str, study: Path, repeats: int, device: str, work: Path) -> Row:
    """Segment a study `repeats` times. Exits if it is not segmented."""
    dicom = study / "dicom" if (study / "dicom").is_dir() else study
    runs, device_used = [], ""
    for number in range(repeats):
        out = work / f"{name}-{number}"
        started = time.perf_counter()
        peak = measure_peak_mib([*GLIONODE, "segment", str(dicom), str(out), "--device", device])
        seconds = time.perf_counter() - started
        report = json.loads((out / "report.json").read_text())
        if report["status"] != "segmented":
            sys.exit(f"{dicom}: {report['status']}: {report['reason']}")
        device_used = report["device"]
        runs.append(Run(report["timings_s"], seconds, peak, dice_against_truth(study, out)))
    return Row(name, device_used, tuple(runs))


def measure_peak_mib(command: list[str]) -> float:
    """Run a command and return its peak resident memory in MiB, measured in a process that runs nothing else."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=2, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True)
    return float(result.stdout.split()[-1])


def dice_against_truth(study: Path, out: Path) -> dict[str, float]:
    """Return the Dice of each label on the T1CE grid; empty where there is no truth."""
    import SimpleITK as sitk
    from highdicom.seg import segread

    from models.labels import LABELS
    from pipeline.measure import dice

    path = study / "truth_t1ce.nii.gz"
    if not path.is_file():
        return {}
    truth = sitk.ReadImage(str(path))
    bits = sitk.GetArrayFromImage(truth)
    found = np.zeros((len(LABELS), *bits.shape), bool)
    seg = segread(out / "seg-t1ce.dcm")
    for frame, item in zip(np.atleast_3d(seg.pixel_array), seg.PerFrameFunctionalGroupsSequence, strict=True):
        place_frame(found, frame, item, seg, truth)
    return {
        label.name: round(dice(mask, (bits >> (label.number - 1)) & 1 == 1), 4)
        for label, mask in zip(LABELS, found, strict=True)
    }


def place_frame(found, frame, item, seg, truth) -> None:  # type: ignore[no-untyped-def]
    """Set the voxels of one frame in `found` at their place in the truth's grid, whatever the frame's orientation."""
    rows, columns = np.nonzero(frame)
    if not len(rows):
        return
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
    points = position + np.outer(columns * spacing[1], orientation[:3]) + np.outer(rows * spacing[0], orientation[3:])
    directions = np.array(truth.GetDirection()).reshape(3, 3)
    index = np.linalg.solve(directions * np.array(truth.GetSpacing()), (points - np.array(truth.GetOrigin())).T)
    assert np.abs(index - np.round(index)).max() < 0.02, "the SEG does not lie on the truth's grid"
    x, y, z = np.round(index).astype(int)
    segment = item.SegmentIdentificationSequence if "SegmentIdentificationSequence" in item else None
    number = (segment or shared.SegmentIdentificationSequence)[0].ReferencedSegmentNumber
    found[number - 1, z, y, x] = True


def print_table(rows: list[Row]) -> None:
    """Print the medians over the repeats, one column per study."""
    width = max(24, *(len(row.study) + 2 for row in rows))
    print("".join([f"{'median of ' + str(len(rows[0].runs)):<16}", *(f"{row.study:>{width}}" for row in rows)]))
    for step in rows[0].runs[0].steps_s:
        print("".join([f"{step + ' s':<16}", *(f"{row.median(step):>{width}.2f}" for row in rows)]))
    processes = (statistics.median(run.process_s for run in row.runs) for row in rows)
    print("".join([f"{'process s':<16}", *(f"{value:>{width}.2f}" for value in processes)]))
    peaks = (max(run.peak_mib for run in row.runs) for row in rows)
    print("".join([f"{'peak MiB':<16}", *(f"{value:>{width}.0f}" for value in peaks)]))
    for label in rows[0].runs[0].dice:
        dices = (f"{row.runs[0].dice[label]:.3f}" if row.runs[0].dice else "" for row in rows)
        print("".join([f"{'Dice ' + label[:10]:<16}", *(f"{value:>{width}}" for value in dices)]))
    machine = describe_machine()
    print(f"{machine['cores']} cores, {machine['processor']}, torch on {', '.join({row.device for row in rows})}")


if __name__ == "__main__":
    main()
