"""Compare encoding with dcmqi: seconds, bytes and peak memory for the same masks on the same files, in one run.

    python -m benchmarks.encode [--repeats 5] [--json FILE]

The study is that of read.py: a 192 x 256 x 256 sagittal T1CE among eight other series, with three overlapping segments
of a tumour's size and ragged outline. Each run is a process of its own. The variants take turns, so that other load on
the machine affects all of them. Seconds cover the work and the writing, but neither the start of Python nor the loading
of the input. "SEG" and dcmqi both read the 192 headers; dcmqi also reads its masks (uncompressed NRRD). "Warm" is the
second study of a process, as in a worker: libraries load tables at their first use. "Before" is what the pipeline
computes for SR-B and capture; it is not in "all of it". CPU seconds depend less on what else runs. Goal: all of it
within 1.5 s and 600 MiB, SEG not slower than dcmqi.
"""

import argparse
import json
import multiprocessing
import pickle
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from benchmarks.read import write_study

PREPARED = """
import gc
from dataclasses import replace
from dicom_seg.capture import encode_capture
from dicom_seg.encode import encode
from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import read_headers
from dicom_seg.sr import encode_sr
from dicom_seg.sr_diameters import encode_diameters
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
result, started = pickle.loads((FOLDER / "result").read_bytes())
# Encoders know labels by identity, which pickling takes away.
measurements = (replace(each, label=PAPER_LABELS[each.label.number - 1]) for each in result.measurements)
result = replace(result, measurements=tuple(measurements))
headers = lambda role: read_headers(result.source(role))
gc.freeze()  # as plugin/worker/context.py does
"""
SEG = "objects = [encode_seg(result, result.on_reference(), headers(Role.T1CE), started)]"
ALL = "objects = [each.dataset for each in encode(result, started)]"
BEFORE_SR = """
source, library = headers(Role.T1CE), [headers(each.role) for each in result.sources]
seg = encode_seg(result, result.on_reference(), source, started)
"""
WRITE = """
for number, dataset in enumerate(objects):
    write_dicom(dataset, FOLDER / "out" / f"{number}.dcm")
"""
COMPUTING = """
from models.labels import Role
from pipeline.diameters import lesion_diameters
from pipeline.panels import panels
volumes, masks, alignments = pickle.loads((FOLDER / "volumes").read_bytes())
"""
DCMQI = """
import dcmqi, subprocess
command = [
    Path(dcmqi.__file__).parent / "bin" / "itkimage2segimage", "--skip", "1",
    "--inputImageList", ",".join(str(FOLDER / f"{number}.nrrd") for number in (1, 2, 3)),
    "--inputDICOMDirectory", FOLDER / "study" / "07", "--inputMetadata", FOLDER / "meta.json",
    "--outputDICOM", FOLDER / "out" / "dcmqi.dcm",
]
"""
RUN_DCMQI = "subprocess.run(command, check=True, capture_output=True)"
MEASURED = """
import os, pickle, resource, shutil, time
from pathlib import Path
FOLDER = Path({folder!r})
shutil.rmtree(FOLDER / "out", ignore_errors=True)
(FOLDER / "out").mkdir()
{before}
started_at, cpu_at = time.perf_counter(), sum(os.times()[:4])
{work}
seconds, cpu_s = time.perf_counter() - started_at, sum(os.times()[:4]) - cpu_at
peak = resource.getrusage(resource.{whose}).ru_maxrss
print(seconds, cpu_s, peak / 1024, sum(path.stat().st_size for path in (FOLDER / "out").iterdir()))
"""
VARIANTS = {
    "SEG on T1CE": (PREPARED, SEG + WRITE),
    "SEG, warm": (PREPARED + SEG, SEG + WRITE),
    "SR-A, volumes": (PREPARED + BEFORE_SR, "objects = [encode_sr(result, source, library, seg, started)]" + WRITE),
    "SR-B, diameters": (PREPARED + BEFORE_SR, "objects = [encode_diameters(result, source, started)]" + WRITE),
    "capture": (PREPARED + BEFORE_SR, "objects = encode_capture(result, source, started)" + WRITE),
    "all of it": (PREPARED, ALL + WRITE),
    "all of it, warm": (PREPARED + ALL, ALL + WRITE),
    "panels, before": (COMPUTING, "panels(volumes, masks, alignments)"),
    "diameters, before": (COMPUTING, "lesion_diameters(masks[0], volumes[Role.T1CE].geometry)"),
    "dcmqi: SEG": (DCMQI, RUN_DCMQI),
}


@dataclass(frozen=True)
class Row:
    """All runs of one variant."""

    name: str
    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]
    peak_mib: float
    size_bytes: int

    @property
    def median(self) -> float:
        """Return the median of the seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Linux counts the memory of the process that starts another as that one's own, so this one stays small.
        preparing = multiprocessing.get_context("spawn").Process(target=prepare, args=(Path(folder),))
        preparing.start()
        preparing.join()
        if preparing.exitcode:
            sys.exit("the study could not be prepared")
        rows = measure(folder, options.repeats)
    print(f"{'':18}{'median s':>10}{'fastest s':>11}{'CPU s':>8}{'peak MiB':>10}{'MB':>8}")
    for row in rows:
        cpu = statistics.median(row.cpu_s)
        print(
            f"{row.name:18}{row.median:10.3f}{min(row.seconds):11.3f}{cpu:8.3f}"
            f"{row.peak_mib:10.0f}{row.size_bytes / 1e6:8.3f}"
        )
    ratios = compare(rows)
    for name, ratio in ratios.items():
        print(f"{name} in seconds of dcmqi's: " + ", ".join(f"{what} {value:.2f}" for what, value in ratio.items()))
    if options.json:
        document = {"machine": describe_machine(), "rows": [asdict(row) for row in rows], "seg_to_dcmqi": ratios}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def compare(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return the time of our SEG, cold and warm, as a multiple of dcmqi's."""
    by_name = {row.name: row for row in rows}
    theirs = by_name["dcmqi: SEG"]
    return {
        name: {
            "median": by_name[name].median / theirs.median,
            "fastest": min(by_name[name].seconds) / min(theirs.seconds),
            "CPU": statistics.median(by_name[name].cpu_s) / statistics.median(theirs.cpu_s),
        }
        for name in ("SEG on T1CE", "SEG, warm")
    }


def measure(folder: str, repeats: int) -> list[Row]:
    """Run every variant several times, in turns; the first, uncounted round warms the disk's cache."""
    found: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for _ in range(repeats + 1):
        for name, (before, work) in VARIANTS.items():
            whose = "RUSAGE_CHILDREN" if work is RUN_DCMQI else "RUSAGE_SELF"
            code = MEASURED.format(folder=folder, before=before, work=work, whose=whose)
            done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
            found[name].append([float(part) for part in done.stdout.split()])
    return [
        Row(
            name=name,
            seconds=tuple(run[0] for run in runs[1:]),
            cpu_s=tuple(run[1] for run in runs[1:]),
            peak_mib=max(run[2] for run in runs),
            size_bytes=int(runs[0][3]),
        )
        for name, runs in found.items()
    ]


def prepare(folder: Path) -> None:
    """Write a study, the result of segmenting it, and the same masks in dcmqi's formats."""
    from datetime import UTC, datetime

    from models.labels import PAPER_LABELS, Role
    from models.package import IntendedUse
    from pipeline.alignment import RoleAlignment, as_matrix
    from pipeline.choose import Selected, choose
    from pipeline.diameters import lesion_diameters
    from pipeline.measure import measure as measure_masks
    from pipeline.panels import panels
    from pipeline.read import read_volume
    from pipeline.result import ModelIdentity, SegmentationResult, SourceSeries
    from pipeline.rules import load_rules
    from pipeline.scan import scan

    (folder / "study").mkdir()
    write_study(folder / "study")
    (study,) = scan([folder / "study"]).studies
    selected = choose(study, (Role.ADC, Role.FLAIR, Role.T1CE), load_rules())
    assert isinstance(selected, Selected), selected
    volumes = {choice.role: read_volume(choice.series, choice.role) for choice in selected.choices}
    geometry = volumes[Role.T1CE].geometry
    masks = tumour(geometry.shape)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(0.03), -np.sin(0.03)], [np.sin(0.03), np.cos(0.03)]]
    still = (0.0, 0.0, 0.0)
    alignments = tuple(
        RoleAlignment(role, True, still, still, as_matrix(motion), "") for role in (Role.ADC, Role.FLAIR)
    )
    result = SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=tuple(
            SourceSeries(each.role, each.series, volumes[each.role].geometry, volumes[each.role].frames, each.why)
            for each in selected.choices
        ),
        alignments=alignments,
        masks=masks,
        measurements=measure_masks(
            masks,
            geometry,
            (np.zeros((len(PAPER_LABELS), *volumes[Role.ADC].geometry.shape), bool), volumes[Role.ADC]),
        ),
        model=ModelIdentity("benchmark", "1", "ab" * 32, IntendedUse.RESEARCH),
        device="cpu",
        diameters=lesion_diameters(masks[0], geometry),
        panels=panels(volumes, masks, alignments),
    )
    (folder / "result").write_bytes(pickle.dumps((result, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))))
    (folder / "volumes").write_bytes(pickle.dumps((volumes, masks, alignments)))
    write_for_dcmqi(folder, masks, folder / "study" / "07")


def tumour(shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return (3, *shape) masks: enhancing rim, ragged ADC and FLAIR abnormality around, a second lesion; 25-160 ml."""
    from scipy.ndimage import gaussian_filter

    rough = gaussian_filter(np.random.default_rng(2).normal(size=shape).astype(np.float32), 3)
    rough *= 4 / rough.std()  # mm
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")).astype(np.float32)

    def distance(*centre: float) -> NDArray[np.float32]:
        offsets = index - np.array(centre, np.float32)[:, None, None, None] * np.array(shape)[:, None, None, None]
        return np.asarray(np.sqrt((offsets**2).sum(axis=0)) + rough, np.float32)

    main, second = distance(0.35, 0.4, 0.45), distance(0.6, 0.3, 0.6)
    enhancing = ((main < 19) & (main > 12)) | (second < 8)
    return np.stack([enhancing, (main < 31) | (second < 14), (main < 33) | (second < 15)])


def write_for_dcmqi(folder: Path, masks: NDArray[np.bool_], series: Path) -> None:
    """Write an NRRD image of each mask in the geometry of the series, and dcmqi's description of the segments."""
    import SimpleITK as sitk

    from models.labels import PAPER_LABELS

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    source = reader.Execute()
    code = {
        "CodingSchemeDesignator": "SCT",
        "CodeValue": "49755003",
        "CodeMeaning": "Morphologically Abnormal Structure",
    }
    lesion = {"CodingSchemeDesignator": "SCT", "CodeValue": "52988006", "CodeMeaning": "Lesion"}
    segments = []
    for label, mask in zip(PAPER_LABELS, masks, strict=True):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.CopyInformation(source)
        sitk.WriteImage(image, str(folder / f"{label.number}.nrrd"), useCompression=False)
        segments.append(
            [
                {
                    "labelID": 1,
                    "SegmentLabel": label.title,
                    "SegmentDescription": label.title,
                    "SegmentAlgorithmType": "AUTOMATIC",
                    "SegmentAlgorithmName": "benchmark",
                    "SegmentedPropertyCategoryCodeSequence": code,
                    "SegmentedPropertyTypeCodeSequence": lesion,
                    "recommendedDisplayRGBValue": label.colour_rgb,
                }
            ]
        )
    description = {"ContentCreatorName": "benchmark", "SeriesDescription": "Segmentation", "SeriesNumber": "300"}
    described = {**description, "InstanceNumber": "1", "segmentAttributes": segments}
    (folder / "meta.json").write_text(json.dumps(described))


if __name__ == "__main__":
    main()
