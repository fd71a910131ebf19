"""The plain pipeline does its work: its masks lie where the head does, and its SEG holds them."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydicom import dcmread
from scipy import ndimage

from benchmarks.masks_of_seg import dice_between
from benchmarks.plain_pipeline import encode, grid_over, read_masks, read_series, register, restore, transforms
from tests.support.small_study import SLICES, write_small_study

NEEDED = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "ManufacturerModelName"),
)
"""What a SEG by highdicom copies."""


@pytest.fixture
def t1ce(tmp_path: Path) -> Path:
    """The folder of one series: a ball of 180 mm in air."""
    for path in write_small_study("1.2.3.4", tmp_path / "all"):
        if path.stem.startswith("1.2.3.4.1."):
            (tmp_path / "T1CE").mkdir(exist_ok=True)
            image = dcmread(path)
            for keyword in NEEDED:
                setattr(image, keyword, "")
            image.save_as(tmp_path / "T1CE" / path.name)
    return tmp_path / "T1CE"


def test_what_is_cropped_comes_back_to_its_place(t1ce: Path) -> None:
    image = read_series(t1ce)
    grid = grid_over(image, 3.0)
    pixels = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform()))
    case = transforms()({"image": np.stack([pixels] * 3)})
    assert case["image"].shape[2] < pixels.shape[1]
    found = restore((torch.as_tensor(case["image"]) != 0).float(), case, grid, image)
    head = sitk.GetArrayFromImage(image) > 0
    assert found.shape == (3, *head.shape)
    shift = np.subtract(ndimage.center_of_mass(found[0]), ndimage.center_of_mass(head))
    assert np.abs(shift).max() < 0.25
    assert np.count_nonzero(found[0] != head) < 0.1 * head.sum()


def test_a_known_motion_is_found(t1ce: Path) -> None:
    ball = read_series(t1ce)
    moving = sitk.Image(ball)
    moving.SetOrigin([float(value) for value in np.array(ball.GetOrigin()) + np.array((6.0, -4.0, 0.0))])
    moved = np.array(register(ball, moving).TransformPoint((0.0, 0.0, 60.0)))
    assert np.abs(moved - (6.0, -4.0, 60.0)).max() < 2.0


def test_the_seg_holds_the_masks(t1ce: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted(t1ce.iterdir(), key=lambda path: int(path.stem.rsplit(".", 1)[1]))]
    masks = np.zeros((SLICES, 40, 40, 3), np.uint8)
    masks[4:9, 10:20, 12:22] = 1
    masks[:, :, :, 2] = 0
    masks[6, 15, 15, 2] = 1
    encode(masks, files, tmp_path / "one.dcm")
    assert np.array_equal(read_masks(tmp_path / "one.dcm", files), masks)
    masks[4, :, :, 0] = 0
    encode(masks, files, tmp_path / "other.dcm")
    dice = dice_between(tmp_path / "one.dcm", tmp_path / "other.dcm")
    assert list(dice.values()) == [round(2 * 400 / 900, 4), 1.0, 1.0]
