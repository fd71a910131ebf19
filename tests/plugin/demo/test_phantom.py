"""Phantom studies: other programs read them, the node chooses their series, and equal seeds give equal files."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from models.labels import PAPER_LABELS, Role
from pipeline.choose import Selected, choose, load_rules
from pipeline.errors import OutputRefused
from pipeline.read import read_volume
from pipeline.scan import scan
from pipeline.volume import Geometry, Matrix, Volume
from plugin.demo.phantom import PhantomStudy, write_phantom
from plugin.demo.phantom_protocols import motion_parameters

TUMOUR_MM = {"enhancing_tumour": 12.0, "adc_abnormality": 25.0, "flair_hyperintensity": 22.0}
CENTRE_MM = (20.0, -10.0, 15.0)
LEVELS = {Role.T1: 300.0, Role.T1CE: 400.0, Role.T2: 500.0, Role.FLAIR: 350.0, Role.ADC: 800.0}


@dataclass(frozen=True)
class BallHead:
    """A head that is a ball of 80 mm with balls for the labels; its signals rise towards the left and the head."""

    seed: int = 5

    def acquire(self, role: Role, geometry: Geometry, motion: Matrix | None, noise_seed: int) -> Volume:
        x, y, z = head_points(geometry, motion)
        lesion = ball(x, y, z, TUMOUR_MM["flair_hyperintensity"], CENTRE_MM)
        values = LEVELS[role] + 0.5 * x + 0.9 * z + 150 * lesion
        return Volume(np.where(ball(x, y, z, 80, (0, 0, 0)), values, 0).astype(np.float32), geometry)

    def truth(self, geometry: Geometry, motion: Matrix | None = None) -> NDArray[np.bool_]:
        x, y, z = head_points(geometry, motion)
        return np.stack([ball(x, y, z, TUMOUR_MM[label.name], CENTRE_MM) for label in PAPER_LABELS])


def ball(x, y, z, radius_mm, centre_mm):
    return (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2 < radius_mm**2


def head_points(geometry: Geometry, motion: Matrix | None) -> list[NDArray[np.float32]]:
    """Return x, y and z in the head, each over (slices, rows, columns)."""
    to_head = np.linalg.inv(np.array(motion)) @ geometry.affine if motion is not None else geometry.affine
    steps = np.ogrid[tuple(slice(size) for size in geometry.shape)]
    rows = to_head.astype(np.float32)
    return [sum(row[axis] * steps[axis].astype(np.float32) for axis in range(3)) + row[3] for row in rows[:3]]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_phantom(BallHead(), tmp_path_factory.mktemp("phantom"), 5, "balls")


@pytest.fixture(scope="module")
def chosen(phantom: PhantomStudy) -> Selected:
    (study,) = scan([phantom.dicom_folder]).studies
    selected = choose(study, (Role.ADC, Role.FLAIR, Role.T1CE), load_rules())
    assert isinstance(selected, Selected)
    return selected


def test_the_node_chooses_the_wanted_series(phantom, chosen):
    assert {one.series_instance_uid: one.role for one in phantom.series if one.role} == {
        choice.series.series_instance_uid: choice.role for choice in chosen.choices
    }
    assert len(phantom.series) == 9


@pytest.mark.parametrize("role", [Role.T1CE, Role.FLAIR, Role.ADC])
def test_geometry_equals_the_truth_that_another_library_wrote(phantom, chosen, role):
    volume = read_volume(chosen.series(role), role)
    image = sitk.ReadImage(str(dict(phantom.truth_paths)[role]))
    assert image.GetSize()[::-1] == volume.geometry.shape
    for index in ((0, 0, 0), (3, 5, 7), tuple(size - 1 for size in volume.geometry.shape)):
        expected = volume.geometry.affine @ (*index, 1)
        assert image.TransformIndexToPhysicalPoint(index[::-1]) == pytest.approx(expected[:3], abs=1e-3)


def test_voxels_are_at_the_position_of_the_head(chosen):
    volume = read_volume(chosen.series(Role.T1CE), Role.T1CE)
    expected = BallHead().acquire(Role.T1CE, volume.geometry, None, 0).pixels
    # Stored whole numbers; the ball's edge may fall on either side.
    assert (np.abs(volume.pixels - expected) <= 0.51).mean() > 0.999


def test_other_readers_see_the_same_stack(phantom, chosen):
    folder = next(one.folder for one in phantom.series if one.role is Role.T1CE)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    volume = read_volume(chosen.series(Role.T1CE), Role.T1CE)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.pixels)
    assert image.GetSpacing()[::-1] == pytest.approx(volume.geometry.spacing_mm, abs=1e-5)
    assert image.GetOrigin() == pytest.approx(volume.geometry.origin_mm, abs=1e-5)


def test_true_volumes_are_those_of_the_balls(phantom):
    for name, volume_ml in phantom.volumes_ml:
        # A ball of r mm is 4/3 pi r^3; voxels of up to 11 mm3 cut its surface.
        assert volume_ml == pytest.approx(4 / 3 * np.pi * TUMOUR_MM[name] ** 3 / 1000, rel=0.02)


def test_the_truth_has_bit_masks_and_facts(phantom):
    folder = phantom.dicom_folder.parent
    facts = json.loads((folder / "truth.json").read_text())
    assert facts["study_uid"] == phantom.study_instance_uid
    assert set(facts["wanted"]) == {"T1CE", "FLAIR", "ADC"}
    assert len(facts["motion_flair"]) == len(facts["motion_adc"]) == 6
    assert (facts["variant"], facts["seed"], len(facts["series"])) == ("balls", 5, 9)
    bits = sitk.GetArrayFromImage(sitk.ReadImage(str(dict(phantom.truth_paths)[Role.T1CE])))
    assert set(np.unique(bits)) == {0, 2, 6, 7}  # the balls are concentric
    assert (bits & 1).astype(bool).sum() / 1000 == pytest.approx(facts["volume_ml"]["enhancing"])


def test_the_trace_images_hold_the_adc(phantom):
    trace, adc = (next(one.folder for one in phantom.series if one.name == name) for name in ("trace", "adc"))
    files = sorted(trace.iterdir())
    first, second = (pydicom.dcmread(files[number]) for number in (16, 48))
    assert (first.DiffusionBValue, second.DiffusionBValue) == (0, 1000)
    middle = (slice(60, 100), slice(60, 100))
    expected = pydicom.dcmread(adc / "IM0017.dcm").pixel_array[middle]
    fitted = np.log(first.pixel_array[middle] / second.pixel_array[middle]) * 1000
    assert np.median(np.abs(fitted - expected)) < 10


def test_without_its_adc_map_the_map_can_be_computed(phantom, chosen):
    (study,) = scan([one.folder for one in phantom.series if one.name != "adc"]).studies
    selected = choose(study, (Role.ADC,), load_rules())
    assert isinstance(selected, Selected)
    computed = read_volume(selected.series(Role.ADC), Role.ADC).pixels
    sent = read_volume(chosen.series(Role.ADC), Role.ADC).pixels
    both = np.isfinite(computed) & np.isfinite(sent)
    assert both.sum() > 0.9 * np.isfinite(sent).sum()
    # Whole stored numbers of about 250 limit a voxel to 1 / 500 x 1000 = 2 x 10^-6 mm2/s.
    assert np.median(np.abs(computed - sent)[both]) < 2


def test_the_patient_is_obviously_synthetic_and_the_headers_are_valid(phantom, program):
    for series in phantom.series:
        path = series.folder / "IM0001.dcm"
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert (header.PatientName, header.PatientID) == ("PHANTOM^GLIONODE", "GLIONODE-5")
        done = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr + done.stdout, done.stderr


def test_uids_are_unique_and_equal_for_equal_seeds(phantom, tmp_path):
    files = sorted(phantom.dicom_folder.rglob("*.dcm"))
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files}
    assert len(uids) == len(files) == sum(one.image_count for one in phantom.series)
    again = write_phantom(BallHead(), tmp_path, 5, "balls")
    assert digest(again.dicom_folder) == digest(phantom.dicom_folder)
    assert (tmp_path / "truth.json").read_text() == (phantom.dicom_folder.parent / "truth.json").read_text()


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.dcm")):
        total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def test_a_folder_in_use_is_refused(phantom):
    with pytest.raises(OutputRefused, match="already holds files"):
        write_phantom(BallHead(), phantom.dicom_folder.parent, 5)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OutputRefused, match="cannot be written"):
        write_phantom(BallHead(), tmp_path / "out", 5)


def test_motion_parameters_are_read_from_the_matrix():
    angle = 0.02
    rows = [
        [np.cos(angle), -np.sin(angle), 0, 1.0],
        [np.sin(angle), np.cos(angle), 0, -2.0],
        [0, 0, 1, 3.0],
        [0, 0, 0, 1],
    ]
    matrix = tuple(tuple(float(value) for value in row) for row in rows)
    assert motion_parameters(matrix) == pytest.approx((0, 0, angle, 1, -2, 3))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "truth_t1ce.nii.gz").write_bytes(b"of another study")
    with pytest.raises(OutputRefused, match="already holds files"):
        write_phantom(BallHead(), tmp_path, 5)
    assert (tmp_path / "truth_t1ce.nii.gz").read_bytes() == b"of another study"
