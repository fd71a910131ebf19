"""A NIfTI file is read where its header says its voxels lie, and refused where that is not sure."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from models.training.dataset.nifti import read_nifti

SFORM = np.diag([-1.0, -1.0, 2.0, 1.0])
VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def write(path: Path, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    image = nibabel.nifti1.Nifti1Image(VOXELS, None)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    image.to_filename(path)
    return path


@pytest.mark.parametrize("flip", [0, 1, 2])
def test_two_orientations_are_refused(tmp_path: Path, flip: int) -> None:
    """One program would show a mask where the other shows its mirror image."""
    turned = SFORM.copy()
    turned[:, flip] *= -1
    path = write(tmp_path / "a.nii.gz", SFORM, turned)
    with pytest.raises(OSError, match=r"a\.nii\.gz has axes LPS by its sform and .* by its qform, so left and right"):
        read_nifti(path)
    # Only one of the two is valid.
    assert np.array_equal(read_nifti(write(path, SFORM, turned, (1, 0)))[0], VOXELS.T)
    assert np.array_equal(read_nifti(write(path, turned, SFORM, (0, 1)))[0], VOXELS.T)


def test_a_registered_image_has_a_shift_between_the_two(tmp_path: Path) -> None:
    shifted = SFORM.copy()
    shifted[:3, 3] = (3.0, -2.0, 1.0)
    _, geometry = read_nifti(write(tmp_path / "a.nii.gz", SFORM, shifted, (2, 1)))
    assert geometry.origin_mm == (0, 0, 0)


def test_a_file_without_a_place_or_without_voxels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="neither sform nor qform"):
        read_nifti(write(tmp_path / "a.nii.gz", SFORM, SFORM, (0, 0)))
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(OSError, match=r"empty\.nii\.gz is an empty file"):
        read_nifti(tmp_path / "empty.nii.gz")
    series = nibabel.nifti1.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), SFORM)
    series.to_filename(tmp_path / "series.nii.gz")
    with pytest.raises(OSError, match="has 4 axes instead of 3"):
        read_nifti(tmp_path / "series.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    image = nibabel.nifti1.Nifti1Image(np.random.default_rng(1).normal(size=(9, 9, 9)), SFORM)
    image.to_filename(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for kept in (len(whole) - 9, len(whole) // 2, 200):
        (tmp_path / name).write_bytes(whole[:kept])
        with pytest.raises(OSError, match="is not a readable NIfTI file"):
            read_nifti(tmp_path / name)


def test_a_voxel_that_changed_on_the_way_is_noticed(tmp_path: Path) -> None:
    """Of a compressed file by its checksum; here the voxels are stored, so that one byte is one voxel's."""
    image = nibabel.nifti1.Nifti1Image(np.zeros((9, 9, 9), np.uint8), SFORM)
    stored = bytearray(gzip.compress(image.to_bytes(), compresslevel=0))
    (tmp_path / "a.nii.gz").write_bytes(stored)
    assert not read_nifti(tmp_path / "a.nii.gz")[0].any()
    stored[-300] = 1
    (tmp_path / "a.nii.gz").write_bytes(stored)
    with pytest.raises(OSError, match="is not a readable NIfTI file"):
        read_nifti(tmp_path / "a.nii.gz")
