"""Channels and labels are read back by name and place; errors name the file and what is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.labels import Role
from models.training.dataset.dataset import read_dataset
from models.training.dataset.manifest import DatasetBroken, DatasetSource, Split
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import CaseRefused, DatasetWriter
from pipeline.normalise import normalise
from tests.support.small_cases import GRID, NAMES, ROLES, new_case

Write = Callable[..., Path]


def test_channels_and_labels_come_back_by_name_and_place(write_dataset: Write) -> None:
    made = {f"STUDY-{number}": new_case(number) for number in range(3)}
    dataset = read_dataset(write_dataset(*made.values()))
    assert (dataset.channels, dataset.labels, dataset.spacing_mm) == (ROLES, NAMES, 1.0)
    name = Pseudonyms(b"k" * 32)
    for case in made.values():
        read = next(each for each in dataset.cases if each.case_id == name("study", case.patient, case.study))
        for role in ROLES:
            volume = read.volume(role)
            assert np.array_equal(volume.pixels, case.channels[role], equal_nan=True)
            assert np.allclose(volume.geometry.affine, GRID.affine, atol=1e-4)
        order = (NAMES[2], NAMES[0])
        assert np.array_equal(read.masks(order), np.stack([case.masks[label] for label in order]))
        raw = torch.from_numpy(np.stack([case.channels[role] for role in ROLES]))
        assert torch.equal(read.normalised(ROLES), normalise(raw, ROLES))
        # Without T1CE among the wanted it still says where the head is.
        assert torch.equal(read.normalised((Role.FLAIR,))[0], normalise(raw, ROLES)[ROLES.index(Role.FLAIR)])


def test_other_programs_read_the_same_grid_from_a_nifti_file(write_dataset: Write) -> None:
    dataset = read_dataset(write_dataset(new_case(1)))
    image = sitk.ReadImage(str(dataset.cases[0].folder / "channel-T1CE.nii.gz"))
    # ITK's index is (column, row, slice), its world LPS.
    assert image.TransformIndexToPhysicalPoint((4, 3, 2)) == pytest.approx((GRID.affine @ [2, 3, 4, 1])[:3], abs=1e-4)
    assert image.GetDirection() == pytest.approx(np.eye(3).ravel(), abs=1e-6)
    assert image.GetPixel((4, 3, 2)) == new_case(1).channels[Role.T1CE][2, 3, 4]


def test_errors_name_missing_channels_labels_and_files(write_dataset: Write) -> None:
    case = read_dataset(write_dataset(new_case(1))).cases[0]
    with pytest.raises(DatasetBroken, match="no channel T2; it has ADC, FLAIR, T1CE"):
        case.volume(Role.T2)
    with pytest.raises(DatasetBroken, match="no label WT"):
        case.masks(("WT",))
    (case.folder / "channel-ADC.nii.gz").write_bytes(b"cut short")
    with pytest.raises(DatasetBroken, match=r"channel-ADC\.nii\.gz is missing or damaged"):
        case.normalised(ROLES)


def test_a_file_from_another_case_is_refused(write_dataset: Write) -> None:
    moved = replace(GRID, origin_mm=(4.5, -7.25, 11.0))
    case = read_dataset(write_dataset(new_case(1))).cases[0]
    other = read_dataset(write_dataset(new_case(2, grid=moved), folder="other")).cases[0]
    (other.folder / "channel-ADC.nii.gz").rename(case.folder / "channel-ADC.nii.gz")
    with pytest.raises(DatasetBroken, match="is on another grid than"):
        case.normalised(ROLES)


def test_a_broken_manifest_is_told_from_a_missing_and_a_newer_one(write_dataset: Write, tmp_path: Path) -> None:
    with pytest.raises(DatasetBroken, match="is not a data set"):
        read_dataset(tmp_path)
    folder = write_dataset(new_case(1))
    written = json.loads((folder / "dataset.json").read_text())
    ((case_id, entry),) = written["cases"].items()
    for change, sentence in (
        ({"format": 1}, "format is 1; this version of glionode reads 2"),
        ({"channels": ["T9"]}, r"dataset\.json: channels\.0: Input should be .*'T1'"),
        ({"spacing": 1.0}, r"dataset\.json: unknown key spacing"),
        ({"seed": "1"}, r"dataset\.json: seed: Input should be a valid integer"),
        ({"cases": {case_id: {**entry, "age": 50}}}, rf"dataset\.json: unknown key cases\.{case_id}\.age"),
        ({"cases": {case_id: {**entry, "drawn": {NAMES[0]: "robot"}}}}, rf"cases\.{case_id}\.drawn\.{NAMES[0]}: Input"),
        ({"splits": {"train": [case_id], "test": [case_id]}}, f"splits list case {case_id} more than once"),
        ({"splits": {"train": [case_id, case_id]}}, f"splits list case {case_id} more than once"),
        ({"splits": {"train": []}}, "splits and cases do not list the same cases"),
    ):
        (folder / "dataset.json").write_text(json.dumps(written | change))
        with pytest.raises(DatasetBroken, match=sentence):
            read_dataset(folder)
    for text, sentence in (
        ("{", r"dataset\.json: Invalid JSON"),
        (json.dumps({key: written[key] for key in written if key != "seed"}), "seed is missing"),
        (json.dumps({key: written[key] for key in written if key != "format"}), "format is missing"),
    ):
        (folder / "dataset.json").write_text(text)
        with pytest.raises(DatasetBroken, match=sentence):
            read_dataset(folder)


def test_splits_are_those_of_the_manifest(write_dataset: Write) -> None:
    dataset = read_dataset(write_dataset(*map(new_case, range(10)), shares=Shares(0.2, 0.1)))
    assert [len(dataset.of(split)) for split in Split] == [7, 2, 1]


def test_a_study_under_two_names_is_refused(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
    writer.add(new_case(1))
    with pytest.raises(CaseRefused, match="occurs twice"):
        writer.add(new_case(1))
    with pytest.raises(CaseRefused, match="Its images are those of case"):
        writer.add(replace(new_case(1), patient="SOMEBODY ELSE", study="ANOTHER"))


def test_a_folder_with_files_is_refused(write_dataset: Write) -> None:
    folder = write_dataset(new_case(1))
    with pytest.raises(DatasetBroken, match="already holds files"):
        DatasetWriter(folder, DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))


def test_a_full_disk_leaves_no_partial_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path / "set", DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
    writer.add(new_case(1))

    def full(voxels: object, geometry: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("models.training.dataset.writer.write_nifti", full)
        with pytest.raises(DatasetBroken, match=r"No space left on device\. Free some disk space"):
            writer.add(new_case(2))
    assert len(list((tmp_path / "set" / "cases").iterdir())) == 1
    assert not (tmp_path / "set" / "dataset.json").exists()
