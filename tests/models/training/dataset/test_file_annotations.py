"""The label of a binary mask follows from its file name or from --map, and is never guessed."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from models.training.dataset.annotation import LabelNames
from models.training.dataset.file_annotations import LabelMapValues, read_file
from models.training.dataset.writer import CaseRefused

OURS = LabelNames()
ONE_IS_ENHANCING = LabelNames({"1": "enhancing_tumour", "255": "enhancing_tumour"})


def write_mask(folder: Path, name: str, number: int = 1) -> Path:
    voxels = np.zeros((4, 5, 6), np.uint8)
    voxels[1:3, 2:4, 1:4] = number
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def labels(path: Path, names: LabelNames = OURS, values: LabelMapValues = LabelMapValues.NUMBERS) -> list[str] | None:
    found = read_file(path, names, values)
    if found is None:
        return None
    assert all(annotation.parts[0][0].sum() == 12 for annotation in found)
    return [annotation.label for annotation in found]


@pytest.mark.parametrize("number", [1, 255])
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("enhancing_tumour", "enhancing_tumour"),
        ("P001_ET", "enhancing_tumour"),
        ("brain_enhancing_tumour", "enhancing_tumour"),
        ("T1CE_mask", "enhancing_tumour"),
        ("sub-07_ADC_seg", "adc_abnormality"),
        ("Hansen adc abnormality", "adc_abnormality"),
        ("reader2-T2-FLAIR", "flair_hyperintensity"),
    ],
)
def test_a_file_name_tells_the_label(tmp_path: Path, name: str, label: str, number: int) -> None:
    assert labels(write_mask(tmp_path, name, number)) == [label]


@pytest.mark.parametrize("number", [1, 255])
@pytest.mark.parametrize(
    "name",
    [
        "non_enhancing_tumour",
        "Non-Enhancing",
        "no_et",
        "T1CE_not_enhancing",
        "necrosis",
        "oedema",
        "ventricles",
        "T1CE_ventricles",
        "flair_necrosis",
        "mask",
        "brain_tumour",
    ],
)
def test_a_name_without_label_is_refused_until_the_number_is_mapped(tmp_path: Path, name: str, number: int) -> None:
    path = write_mask(tmp_path, name, number)
    with pytest.raises(CaseRefused, match=f"Name it after the label, give --map {number}=LABEL, or remove it"):
        labels(path)
    assert labels(path, ONE_IS_ENHANCING) == ["enhancing_tumour"]


@pytest.mark.parametrize(
    "name", ["brain_mask", "T1CE_bet_mask", "P1_t1ce_brainmask", "brain_mask_FLAIR", "brain_mask_1"]
)
@pytest.mark.parametrize("values", LabelMapValues)
def test_a_brain_mask_is_never_a_label(tmp_path: Path, name: str, values: LabelMapValues) -> None:
    path = write_mask(tmp_path, name)
    assert labels(path, OURS, values) is None
    assert labels(path, ONE_IS_ENHANCING, values) is None


def test_other_numbers_make_a_label_map(tmp_path: Path) -> None:
    assert labels(write_mask(tmp_path, "map", 2)) == ["adc_abnormality"]


def write_values(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


def drawn(of_label: float, elsewhere: float = 0.0) -> np.ndarray:
    voxels = np.full((4, 5, 6), elsewhere, np.float32)
    voxels[1:3, 2:4, 1:4] = of_label
    return voxels


@pytest.mark.parametrize("value", [1.00002, 0.9999, 256 / 255, 255.0, 254.9999])
def test_a_mask_that_a_slope_made_fractional_is_still_a_mask(tmp_path: Path, value: float) -> None:
    assert labels(write_values(tmp_path, "enhancing_tumour", drawn(value, -0.0))) == ["enhancing_tumour"]
    assert labels(write_values(tmp_path, "map", drawn(2 * 1.00002))) == ["adc_abnormality"]


@pytest.mark.parametrize("name", ["enhancing_tumour", "T1CE_mask", "P1_seg", "drawing"])
@pytest.mark.parametrize("value", [0.5, 1.3, np.nan, np.inf])
def test_a_map_with_values_between_labels_is_refused_and_not_passed_over(
    tmp_path: Path, name: str, value: float
) -> None:
    seen = f"{value:g}" if np.isfinite(value) else "NaN"
    with pytest.raises(CaseRefused, match=f"{name}.nii.gz holds .*{seen}"):
        labels(write_values(tmp_path, name, drawn(1.0) + drawn(value - 1 if np.isfinite(value) else value)))


def test_an_interpolated_mask_is_known_by_its_name_and_an_image_by_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(1).uniform(0, 1, (4, 5, 6)).astype(np.float32)
    for name in ("T1CE_mask", "enhancing_tumour", "adc abnormality"):
        with pytest.raises(CaseRefused, match=r"no whole numbers \(.* and \d+ more\)"):
            labels(write_values(tmp_path, name, values))
    holes = values.copy()
    holes[0] = np.nan
    for name in ("T1CE", "flair", "sub-01_adc", "brain_mask", "tumour_prob_map", "enhancing_tumour_probability"):
        assert labels(write_values(tmp_path, name, values)) is None
        assert labels(write_values(tmp_path, name, holes)) is None
    many = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    assert labels(write_values(tmp_path, "aparc_seg", many)) is None
    assert labels(write_values(tmp_path, "T1", many - 60)) is None


def test_a_negative_number_in_a_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseRefused, match=r"T1CE_mask\.nii\.gz holds -1, which is no label's number"):
        labels(write_values(tmp_path, "T1CE_mask", drawn(1.0, -1.0).astype(np.int16)))
