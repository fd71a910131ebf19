"""Compare choosing and reading with SimpleITK and dcm2niix: seconds and peak memory over the same files, in one run.

    python -m benchmarks.read [--repeats 5] [--json FILE]

The study is generated: a 192 x 256 x 256 T1CE and eight other series, one file per slice, uncompressed. Each run is a
process of its own; seconds are those of the work alone, without starting Python. dcm2niix converts (and writes) only
the T1CE in one row and the whole folder in another. SimpleITK also has to search the folders for series first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

OURS = """
from pathlib import Path
from models.labels import Role
from pipeline.choose import choose, load_rules
from pipeline.read import read_volume
from pipeline.scan import scan
rules = load_rules()
started = time.perf_counter()
(study,) = scan([Path(FOLDER)]).studies
chosen = choose(study, (Role.T1CE,), rules)
volume = read_volume(chosen.series(Role.T1CE), Role.T1CE)
assert volume.pixels.shape == (192, 256, 256)
"""
SIMPLEITK = """
import os
import SimpleITK as sitk
reader = sitk.ImageSeriesReader()
started = time.perf_counter()
largest = ()
for name in sorted(os.listdir(FOLDER)):
    for uid in reader.GetGDCMSeriesIDs(os.path.join(FOLDER, name)):
        files = reader.GetGDCMSeriesFileNames(os.path.join(FOLDER, name), uid)
        largest = files if len(files) > len(largest) else largest
reader.SetFileNames(largest)
assert reader.Execute().GetSize() == (256, 256, 192)
"""
DCM2NIIX = """
import subprocess, tempfile
with tempfile.TemporaryDirectory() as out:
    started = time.perf_counter()
    subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-o", out, FOLDER + SUBFOLDER], check=True, capture_output=True)
"""
MEASURED = """
import resource, time
FOLDER, SUBFOLDER = {folder!r}, {subfolder!r}
{work}
seconds = time.perf_counter() - started
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(seconds, peak / 1024)
"""
SERIES = (
    *(("localizer", 3), ("t1_se_tra", 28), ("t2_tse_tra", 28), ("t2_tirm_tra_dark-fluid", 28)),
    *(("ep2d_diff_TRACEW", 56), ("ep2d_diff_ADC", 28), ("t1_mprage_sag_p2_iso_KM", 192)),
    *(("t1_mprage_sag_p2_iso_KM_MPR_Tra", 41), ("t1_se_tra_KM_SUB", 28)),
)


@dataclass(frozen=True)
class Row:
    """All runs of one variant."""

    name: str
    seconds: tuple[float, ...]
    peak_mib: float


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    variants = (
        *(("glionode: scan, choose, read", OURS, ""), ("SimpleITK: find, read", SIMPLEITK, "")),
        *(("dcm2niix: the T1CE alone", DCM2NIIX, "/07"), ("dcm2niix: the whole folder", DCM2NIIX, "")),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder))
        rows = [measure(name, work, folder, subfolder, options.repeats) for name, work, subfolder in variants]
    print(f"{'':30}{'median s':>10}{'fastest s':>11}{'peak MiB':>10}")
    for row in rows:
        print(f"{row.name:30}{statistics.median(row.seconds):10.3f}{min(row.seconds):11.3f}{row.peak_mib:10.0f}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def measure(name: str, work: str, folder: str, subfolder: str, repeats: int) -> Row:
    """Run one variant several times; the first, uncounted run warms the disk's cache."""
    code = MEASURED.format(folder=folder, subfolder=subfolder, work=work)
    found = []
    for _ in range(repeats + 1):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append([float(part) for part in done.stdout.split()])
    return Row(name, tuple(seconds for seconds, _ in found[1:]), max(peak for _, peak in found))


def write_study(folder: Path) -> None:
    """Write nine series with headers as large as a Siemens scanner's (about 100 KiB of private elements)."""
    random = np.random.default_rng(1)
    study_uid, frame_uid = generate_uid(), generate_uid()
    for number, (description, count) in enumerate(SERIES, 1):
        place = folder / f"{number:02d}"
        place.mkdir()
        series_uid = generate_uid()
        size = 256 if count != 56 else 128
        for index in range(count):
            header = Dataset()
            header.file_meta = FileMetaDataset()
            header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
            header.Modality, header.SeriesDescription, header.SeriesNumber = "MR", description, number
            header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, series_uid
            header.FrameOfReferenceUID, header.InstanceNumber = frame_uid, index + 1
            header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
            header.EchoTime, header.RepetitionTime = (3, 2000) if "t1" in description else (90, 6000)
            header.ImagePositionPatient = [-96 + index, -128, 128] if count == 192 else [-128, -128, 5 * index]
            header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1] if count == 192 else [1, 0, 0, 0, 1, 0]
            header.PixelSpacing, header.Rows, header.Columns = [1, 1], size, size
            header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
            header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
            block = header.private_block(0x0029, "GLIONODE BENCHMARK", create=True)
            for element in range(100):
                block.add_new(element, "OB", bytes(1000))
            header.PixelData = random.integers(0, 4096, (size, size), "u2").tobytes()
            dcmwrite(place / f"{index:04d}.dcm", header, enforce_file_format=True)


if __name__ == "__main__":
    main()
