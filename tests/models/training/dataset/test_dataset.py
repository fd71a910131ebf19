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
from models.training.dataset.check_dataset import check_dataset
from models.training.dataset.dataset import read_dataset
from models.training.dataset.fingerprint import image_fingerprint
from models.training.dataset.manifest import Annotator, DatasetBroken, DatasetSource, Split
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import CaseRefused, DatasetWriter
from pipeline.normalise import normalise
from tests.support.small_cases import GRID, NAMES, ROLES, lacking, new_case

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


def test_a_case_has_its_own_channels_and_labels(write_dataset: Write) -> None:
    """A data set lists what any case has, in its order; what a case lacks has no file, no entry and no empty mask."""
    empty = new_case(2)
    empty.masks[NAMES[1]][:] = False
    cases = (lacking(new_case(1), Role.ADC, NAMES[1]), empty, lacking(new_case(3), Role.T1CE, NAMES[0], NAMES[2]))
    dataset = read_dataset(write_dataset(*cases))
    assert (dataset.channels, dataset.labels) == (ROLES, NAMES)
    name = Pseudonyms(b"k" * 32)
    read = {case.case_id: case for case in dataset.cases}
    first, second, third = (read[name("study", case.patient, case.study)] for case in cases)
    assert [case.channels for case in (first, second, third)] == [ROLES[1:], ROLES, ROLES[:2]]
    assert [case.labels for case in (first, second, third)] == [(NAMES[0], NAMES[2]), NAMES, (NAMES[1],)]
    assert [case.reference for case in (first, second, third)] == [Role.T1CE, Role.T1CE, Role.FLAIR]
    assert sorted(path.name for path in third.folder.iterdir()) == [
        "channel-ADC.nii.gz",
        "channel-FLAIR.nii.gz",
        f"label-{NAMES[1]}.nii.gz",
    ]
    assert not second.masks((NAMES[1],)).any()
    with pytest.raises(DatasetBroken, match=f"has no label {NAMES[1]}; it has {NAMES[0]}, {NAMES[2]}"):
        first.masks(NAMES)
    with pytest.raises(DatasetBroken, match="has no channel ADC; it has FLAIR, T1CE"):
        first.volumes(ROLES)
    assert list(json.loads((dataset.folder / "dataset.json").read_text())["cases"][first.case_id]["drawn"]) == [
        NAMES[0],
        NAMES[2],
    ]


def test_a_data_set_lists_what_a_case_has_and_not_what_was_asked_for(write_dataset: Write) -> None:
    dataset = read_dataset(write_dataset(*(lacking(new_case(number), Role.ADC, NAMES[1]) for number in range(3))))
    assert (dataset.channels, dataset.labels) == (ROLES[1:], (NAMES[0], NAMES[2]))


def test_a_case_needs_a_channel_and_a_label(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
    with pytest.raises(CaseRefused, match="no channel"):
        writer.add(lacking(new_case(1), *ROLES))
    with pytest.raises(CaseRefused, match="no label"):
        writer.add(lacking(new_case(1), *NAMES))
    drawn = dict.fromkeys(NAMES, Annotator.NOBODY) | {NAMES[0]: Annotator.RULE}
    writer.add(replace(new_case(1), annotators=drawn))
    writer.finish(Shares(), seed=1)
    assert read_dataset(tmp_path / "set").cases[0].annotators == drawn


def test_format_2_is_read_as_if_every_case_had_all(write_dataset: Write) -> None:
    """The same voxels in both formats are the same data set, by fingerprint too: packages that name one are right."""
    folder = write_dataset(*map(new_case, range(3)))
    new = read_dataset(folder)
    older = json.loads((folder / "dataset.json").read_text()) | {"format": 2}
    for case in older["cases"].values():
        del case["images"]
    (folder / "dataset.json").write_text(json.dumps(older))
    old = read_dataset(folder)
    assert (old.channels, old.labels, old.fingerprint) == (ROLES, NAMES, new.fingerprint)
    for case, same in zip(old.cases, new.cases, strict=True):
        assert (case.channels, case.labels, case.annotators) == (same.channels, same.labels, same.annotators)
        assert case.image_fingerprints == same.image_fingerprints != frozenset()
    assert not any(finding.wrong for finding in check_dataset(old, lambda *_: None))
    written = json.dumps(older)
    for name, former in zip(NAMES, ("ET", "TC", "unknown"), strict=True):
        written = written.replace(name, former)
        for case in old.cases:
            (case.folder / f"label-{name}.nii.gz").rename(case.folder / f"label-{former}.nii.gz")
    (folder / "dataset.json").write_text(written)
    assert any(
        "before format 3 (TC for tumour_core, ET for enhancing_tumour)" in finding.sentence
        for finding in check_dataset(read_dataset(folder), lambda *_: None)
    )
    (case_id, *_) = older["cases"]
    del older["cases"][case_id]["drawn"][NAMES[0]]
    (folder / "dataset.json").write_text(json.dumps(older))
    with pytest.raises(DatasetBroken, match=f"case {case_id} has other channels or labels .* format 2"):
        read_dataset(folder)


def test_one_scan_is_found_whatever_it_was_prepared_as(write_dataset: Write) -> None:
    """Axes in another order and direction, more air, other intensities, fewer channels: the images are the same."""
    voxels = np.pad(new_case(1).channels[Role.T1CE], 2)
    turned = np.pad(np.flip(voxels.transpose(2, 0, 1), 1), ((0, 3), (1, 0), (0, 0)))
    same = {image_fingerprint(each) for each in (voxels, turned, voxels * 4, np.where(voxels == 0, np.nan, voxels))}
    assert len(same) == 1
    changed = voxels.copy()
    changed[3:6, 4:8, 4:8] = changed[3:6, 4:8, 4:8][::-1]
    assert image_fingerprint(changed) not in same
    one, other = new_case(1), lacking(new_case(1), Role.T1CE)
    sets = [read_dataset(write_dataset(each, folder=name)) for name, each in (("one", one), ("other", other))]
    first, second = (each.cases[0].image_fingerprints for each in sets)
    assert len(first) == 3
    assert second < first
    stranger = read_dataset(write_dataset(new_case(2), folder="stranger")).cases[0]
    assert not first & stranger.image_fingerprints


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
        ({"format": 1}, "format is 1; this version of glionode reads 2 and 3"),
        ({"channels": ["ADC", "T1CE"]}, f"case {case_id} has FLAIR, which is not among the data set's"),
        ({"labels": NAMES[1:]}, f"case {case_id} has {NAMES[0]}, which is not among the data set's"),
        ({"cases": {case_id: {**entry, "images": {}}}}, f"case {case_id} has no channels"),
        ({"cases": {case_id: {**entry, "drawn": {}}}}, f"case {case_id} has no labels"),
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
