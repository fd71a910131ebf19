"""Test what OHIF and dcmjs show of our objects after Orthanc stored and returned them.

The objects are encoded from a phantom's truth, so every voxel is known. Screenshots are kept in out/viewers.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_seg.encode import encode
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from pipeline.measure import dice
from pipeline.result import MasksOnSeries, SegmentationResult
from tests.support.command_line import Demonstration
from tests.support.installed import find_orthanc, skip_missing
from tests.support.paths import ROOT
from tests.support.viewers.truth import true_result
from tests.support.walks import run_walk

STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
SENT_IMAGES = ("04_flair", "06_adc", "07_t1ce", "08_mpr")
"""The sources, and a reformat of T1CE in the same frame of reference that no SEG references."""
SEGS = {Role.T1CE: "seg-t1ce.dcm", Role.FLAIR: "seg-flair.dcm", Role.ADC: "seg-adc.dcm"}
DIAMETERS, REPORT, CAPTURE = "sr-diameters.dcm", "sr-measurements.dcm", "capture-02.dcm"
Voxels = dict[str, dict[str, dict[str, Any]]]
"""Voxel count and sha256 of each mask, by segment number and SOP Instance UID of the source image."""

# The first test runs the demonstration and the walk.
pytestmark = pytest.mark.timeout(600)
on_each_seg = pytest.mark.parametrize("role", SEGS)


def viewer(name: str) -> Path:
    """Return the folder of a viewer from scripts/install-viewers, or skip the test."""
    folder = ROOT / ".viewers" / name
    if not (folder / ".installed").is_file():
        skip_missing(f"{name} in {folder.parent}")
    return folder


@pytest.fixture(scope="session")
def truth(demonstration: Demonstration) -> SegmentationResult:
    """The result of a perfect model for the demonstration's phantom."""
    return true_result(demonstration.out / "phantom")


@pytest.fixture(scope="session")
def objects(truth: SegmentationResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of all objects that are encoded from the result, by name."""
    folder = tmp_path_factory.mktemp("objects")
    for encoded in encode(truth, STARTED):
        write_dicom(encoded.dataset, folder / encoded.file_name)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def walked(
    truth: SegmentationResult,
    objects: dict[str, Path],
    demonstration: Demonstration,
    program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What the walk with Orthanc and OHIF observed, run once."""
    orthanc = find_orthanc()
    peers = [program("storescu"), orthanc.program, orthanc.dicomweb_plugin, program("chromium"), viewer("ohif")]
    work = tmp_path_factory.mktemp("viewers")
    images = [demonstration.study / name for name in SENT_IMAGES]
    plan = work / "plan.json"
    plan.write_text(json.dumps(make_plan(truth, objects, images)))
    result = run_walk("walk_with_viewers", plan, work, *peers, timeout_s=300)
    assert result.returncode == 0, result.stderr
    save_pictures(work / "shots")
    return dict(json.loads(result.stdout))


def make_plan(truth: SegmentationResult, objects: dict[str, Path], images: list[Path]) -> dict[str, Any]:
    """Return what the walk is to send and to open."""
    headers = {name: dcmread(path, stop_before_pixels=True) for name, path in objects.items()}
    series = {name: str(header.SeriesInstanceUID) for name, header in headers.items()}
    return {
        "study": truth.study_instance_uid,
        "folders": [*map(str, images), str(objects[REPORT].parent)],
        "series_count": len(images) + len(set(series.values())),
        "objects": [(series[name], str(header.SOPInstanceUID)) for name, header in headers.items()],
        "segs": {role.lower(): {"series": series[name], **seg_plan(truth, role)} for role, name in SEGS.items()},
        "capture": {"series": series[CAPTURE], "sop": str(headers[CAPTURE].SOPInstanceUID)},
        "diameters": {"series": series[DIAMETERS], "printed": f"{truth.diameters[0].short.length_mm:.2f} mm"},
        "report": {"series": series[REPORT], "printed": "Enhancing tumour"},
    }


def seg_plan(truth: SegmentationResult, role: Role) -> dict[str, Any]:
    """Return the image to scroll to, and three corners of its voxel grid in patient coordinates."""
    source, index = truth.source(role), shown_slice(truth, role)
    _, rows, columns = source.geometry.shape
    corners = np.array([(index, 0, 0, 1), (index, rows - 1, 0, 1), (index, 0, columns - 1, 1)])
    return {
        "source": source.series.series_instance_uid,
        "sop": source.frames[index].sop_instance_uid,
        "overlays": len(masks_on(truth, role).labels),
        "points": (corners @ source.geometry.affine.T)[:, :3].tolist(),
    }


def masks_on(truth: SegmentationResult, role: Role) -> MasksOnSeries:
    return next(each for each in (truth.on_reference(), *truth.native) if each.role is role)


def shown_slice(truth: SegmentationResult, role: Role) -> int:
    """Return the slice with most voxels of the first label."""
    return int(np.count_nonzero(masks_on(truth, role).masks[0], axis=(1, 2)).argmax())


def save_pictures(shots: Path) -> None:
    """Save the screenshots in out/viewers with 256 colours, small enough for docs/."""
    folder = ROOT / "out" / "viewers"
    folder.mkdir(parents=True, exist_ok=True)
    for path in shots.iterdir():
        # FASTOCTREE keeps the few coloured pixels; Pillow's other methods make them grey.
        picture = Image.open(path).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        picture.save(folder / path.name, optimize=True)


def true_voxels(truth: SegmentationResult, role: Role) -> Voxels:
    """Return the true masks in the form in which the viewers report them, without empty slices."""
    on, frames = masks_on(truth, role), truth.source(role).frames
    return {
        str(number): {
            frame.sop_instance_uid: {
                "voxels": int(np.count_nonzero(mask)),
                "sha256": hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest(),
            }
            for frame, mask in zip(frames, masks, strict=True)
            if mask.any()
        }
        for number, masks in enumerate(on.masks, 1)
    }


def counts(voxels: Voxels) -> dict[str, int]:
    return {number: sum(each["voxels"] for each in slices.values()) for number, slices in voxels.items()}


def after_meta(file: bytes) -> bytes:
    """Return a DICOM file without preamble and file meta information (PS3.10 7.1)."""
    return file[132 + 12 + int(dcmread(BytesIO(file), stop_before_pixels=True).file_meta[0x00020000].value) :]


def test_orthanc_accepts_every_object_from_dcmtk(walked: dict[str, Any]) -> None:
    assert walked["storescu"] == 0


def test_orthanc_returns_the_same_bytes_over_dicomweb(walked: dict[str, Any], objects: dict[str, Path]) -> None:
    """Only the file meta information differs: C-STORE does not transfer it, and Orthanc writes its own."""
    fetched = {path.stem: path.read_bytes() for path in Path(walked["fetched"]).iterdir()}
    assert len(fetched) == len(objects)
    for path in objects.values():
        sent = path.read_bytes()
        header = dcmread(path, stop_before_pixels=True)
        assert after_meta(fetched[header.SOPInstanceUID]) == after_meta(sent), path.name
        meta = dcmread(BytesIO(fetched[header.SOPInstanceUID]), stop_before_pixels=True).file_meta
        changed = {element.keyword for element in meta if element != header.file_meta.get(element.tag)}
        assert changed <= {
            "FileMetaInformationGroupLength",
            "ImplementationClassUID",
            "ImplementationVersionName",
        }


@on_each_seg
def test_dcmjs_reads_the_overlapping_segments(
    truth: SegmentationResult, objects: dict[str, Path], program: Callable[[str], str], role: Role
) -> None:
    read_segments = ROOT / "tests" / "support" / "viewers" / "read_segments.cjs"
    command = [program("node"), str(read_segments), str(viewer("dcmjs")), str(objects[SEGS[role]])]
    read = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert counts(read) == counts(true_voxels(truth, role))
    assert read == true_voxels(truth, role)


@on_each_seg
def test_ohif_attaches_each_seg_to_its_series(
    walked: dict[str, Any], truth: SegmentationResult, objects: dict[str, Path], role: Role
) -> None:
    seg = str(dcmread(objects[SEGS[role]], stop_before_pixels=True).SeriesInstanceUID)
    assert walked["series"][seg] == truth.source(role).series.series_instance_uid


@on_each_seg
def test_ohif_reads_every_voxel(walked: dict[str, Any], truth: SegmentationResult, role: Role) -> None:
    found = walked["segs"][role.lower()]["found"]
    assert counts(found) == counts(true_voxels(truth, role))
    assert found == true_voxels(truth, role)


@on_each_seg
def test_ohif_places_each_segment_correctly(walked: dict[str, Any], truth: SegmentationResult, role: Role) -> None:
    """The centre of each segment in OHIF's geometry is the true one within half a voxel along each axis.

    OHIF's own `centroids` are not used: they are off by 4 voxels in the plane of T1CE for this enhancing rim.
    """
    to_index = np.linalg.inv(truth.source(role).geometry.affine)
    for number, mask in enumerate(masks_on(truth, role).masks, 1):
        index = to_index @ [*walked["segs"][role.lower()]["centres"][str(number)], 1]
        np.testing.assert_allclose(index[:3], np.argwhere(mask).mean(axis=0), atol=0.5)


@on_each_seg
def test_ohif_paints_the_lesion_where_it_is(walked: dict[str, Any], truth: SegmentationResult, role: Role) -> None:
    """The coloured part of the screenshot fits the true slice better than one moved by a voxel or mirrored."""
    on, index = masks_on(truth, role), shown_slice(truth, role)
    painted_rgb = at_voxels(walked["segs"][role.lower()], truth.source(role).geometry.shape[1:])
    coloured = np.ptp(painted_rgb, axis=-1) > 12
    mask = on.masks[:, index].any(axis=0)
    box = around(mask)
    found = dice(coloured[box], mask[box])
    moves = [move for move in product((-1, 0, 1), repeat=2) if any(move)]
    others = [np.roll(mask, move, axis=(0, 1)) for move in moves] + [mask[::-1], mask[:, ::-1]]
    assert found > 0.97
    assert found > max(dice(coloured[box], other[box]) for other in others) + 0.005
    if len(on.labels) == 1:  # overlapping segments mix their colours
        colour = np.median(painted_rgb[mask], axis=0) - np.median(painted_rgb[box][~coloured[box]], axis=0)
        assert np.argsort(colour).tolist() == np.argsort(on.labels[0].colour_rgb).tolist()


def at_voxels(observed: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (rows, columns, 3): the screenshot's colour at the centre of each voxel of the slice."""
    origin, last_row, last_column = np.array(observed["in_page"])
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    places = origin + rows[..., None] * (last_row - origin) / (shape[0] - 1)
    places = places + columns[..., None] * (last_column - origin) / (shape[1] - 1)
    shot = np.asarray(Image.open(observed["shot"]).convert("RGB")).astype(np.int64)
    x, y = np.clip(np.floor(places).astype(int), 0, np.array(shot.shape[1::-1]) - 1).transpose(2, 0, 1)
    picked: NDArray[np.int64] = shot[y, x]
    return picked


def around(mask: NDArray[np.bool_], margin: int = 10) -> tuple[slice, slice]:
    """Return the bounding box of a mask with a margin; it leaves out OHIF's text in the corners of the viewport."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def test_ohif_shows_the_diameters(walked: dict[str, Any], truth: SegmentationResult) -> None:
    observed = walked["diameters"]
    source = truth.source(Role.T1CE)
    assert truth.diameters  # else the test checks nothing
    assert len(observed["measured"]) == len(truth.diameters)
    for measured, lesion in zip(observed["measured"], truth.diameters, strict=True):
        lines = (lesion.long, lesion.short)
        lengths = [f"{line.length_mm:.2f} mm" for line in lines]
        assert measured["labels"] == [["Long Axis", lengths[0]], ["Short Axis", lengths[1]]]
        assert measured["sop"] == source.frames[lesion.slice_index].sop_instance_uid
        ends = [[(lesion.slice_index, *line.start, 1), (lesion.slice_index, *line.end, 1)] for line in lines]
        index = homogeneous(measured["lines"]) @ np.linalg.inv(source.geometry.affine).T
        np.testing.assert_allclose(index, ends, atol=0.5)
    first = truth.diameters[0]
    for line in (first.long, first.short):
        assert f"{line.length_mm:.2f} mm" in observed["printed"]


def homogeneous(points: object) -> NDArray[np.float64]:
    array = np.array(points, float)
    return np.concatenate([array, np.ones((*array.shape[:-1], 1))], axis=-1)


def test_ohif_shows_the_measurements_as_text(walked: dict[str, Any], truth: SegmentationResult) -> None:
    printed = walked["report"]["printed"]
    for measurement in truth.measurements:
        assert measurement.label.title in printed
        assert f"{measurement.volume_ml:.6g} cm3" in printed


def test_ohif_opens_the_capture(walked: dict[str, Any], objects: dict[str, Path]) -> None:
    capture: Dataset = dcmread(objects[CAPTURE])
    assert walked["capture"]["shape"] == [capture.Rows, capture.Columns, 3]
    pixels = capture.PixelData[: capture.Rows * capture.Columns * 3]
    assert walked["capture"]["sha256"] == hashlib.sha256(pixels).hexdigest()
    # The screen shows the colours of all labels too, in the table and in the contours.
    shot = np.asarray(Image.open(walked["capture"]["shot"]).convert("RGB")).astype(int)
    for label in PAPER_LABELS:
        assert (np.abs(shot - label.colour_rgb).max(axis=2) < 40).any(), label.title


def test_the_page_has_no_uncaught_errors(walked: dict[str, Any]) -> None:
    assert walked["errors"] == []
