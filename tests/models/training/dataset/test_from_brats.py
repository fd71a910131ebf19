"""Names and numbers of every year become the same regions at the same places; other cases are skipped with a reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.labels import Role
from models.training.dataset.brats_files import find_brats
from models.training.dataset.case_names import patient_in, read_case_name
from models.training.dataset.check_dataset import check_dataset
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.from_brats import BratsSettings, convert_brats
from models.training.dataset.label_numbers import IN_2023, SINCE_2024, UNTIL_2021, parse_numbers
from models.training.dataset.manifest import DatasetBroken, DatasetSource, Split
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.required import parse_required
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, SkippedStudy

SHAPE = (14, 20, 17)
BRAIN = (slice(3, 11), slice(2, 18), slice(4, 15))
NAMES = Pseudonyms(b"k" * 32)
OLD = {Role.FLAIR: "_flair", Role.T1: "_t1", Role.T1CE: "_t1ce", Role.T2: "_t2"}
NEW = {Role.FLAIR: "-t2f", Role.T1: "-t1n", Role.T1CE: "-t1c", Role.T2: "-t2w"}
SUBREGIONS = {"necrosis": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
"""Values in the result of `anatomy`."""


def anatomy(seed: int) -> np.ndarray:
    """Random tumour parts, which no flip or shift maps to themselves; 0 elsewhere; (slices, rows, columns)."""
    parts = np.zeros(SHAPE, np.uint8)
    parts[BRAIN] = np.random.default_rng(seed).choice(5, size=parts[BRAIN].shape, p=(0.6, 0.1, 0.15, 0.1, 0.05))
    return parts


def images(seed: int) -> dict[Role, np.ndarray]:
    found = {}
    for role in OLD:
        voxels = np.zeros(SHAPE, np.int16)
        voxels[BRAIN] = np.random.default_rng([seed, list(Role).index(role)]).integers(1, 900, voxels[BRAIN].shape)
        found[role] = voxels
    return found


def write(path: Path, voxels: np.ndarray) -> None:
    """Write an image with the grid of BraTS: LPS, 1 mm, the origin at the last row."""
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin((0.0, -239.0, 0.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_case(
    folder: Path, name: str, seed: int, *, end: str = ".nii.gz", seg: str = "", numbers: dict[str, int] | None = None
) -> Path:
    """Write a case like one of the challenges; `numbers` maps parts of the tumour to label numbers."""
    suffixes = NEW if "-" in name else OLD
    numbers = numbers or {"necrosis": 1, "oedema": 2, "enhancing": 3 if "-" in name else 4}
    for role, voxels in images(seed).items():
        write(folder / name / f"{name}{suffixes[role]}{end}", voxels)
    labels = np.zeros(SHAPE, np.uint8)
    for part, number in numbers.items():
        labels[anatomy(seed) == SUBREGIONS[part]] = number
    write(folder / name / (seg or f"{name}{'-' if '-' in name else '_'}seg{end}"), labels)
    return folder / name


Convert = Callable[..., tuple[Dataset, tuple[SkippedStudy, ...]]]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    def run(
        folder: Path, settings: BratsSettings | None = None, out: str = "out", shares: Shares | None = None
    ) -> tuple[Dataset, tuple[SkippedStudy, ...]]:
        settings = settings or BratsSettings()
        writer = DatasetWriter(tmp_path / out, DatasetSource.BRATS, settings.channels, settings.regions, NAMES)
        skipped = convert_brats(folder, writer, settings, lambda *_: None)
        writer.finish(shares or Shares(), seed=1)
        return read_dataset(tmp_path / out), skipped

    return run


def true_regions(seed: int) -> dict[str, np.ndarray]:
    parts = anatomy(seed)
    return {
        "tumour_core": np.isin(parts, (1, 3)),
        "whole_tumour": np.isin(parts, (1, 2, 3)),
        "enhancing_tumour": parts == 3,
        "resection_cavity": parts == 4,
    }


def assert_case_is(dataset: Dataset, name: str, patient: str, seed: int) -> None:
    """Assert that every voxel of every channel and region is where the challenge had it."""
    case = next(each for each in dataset.cases if each.case_id == NAMES("study", f"brats {patient}", f"brats {name}"))
    assert case.patient == NAMES("patient", f"brats {patient}")
    geometry = case.geometry
    # World of index (0, 0, 0) of the whole image is (0, -239, 0): LPS along the axes, so the crop's place is whole mm.
    x, y, z = np.rint(geometry.origin_mm).astype(int)
    box = tuple(slice(start, start + size) for start, size in zip((z, y + 239, x), geometry.shape, strict=True))
    assert np.allclose(geometry.affine[:3, :3], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    for role in dataset.channels:
        assert np.array_equal(case.volume(role).pixels, images(seed)[role][box]), role
        assert (images(seed)[role] != 0).sum() == (case.volume(role).pixels != 0).sum()
    for label, mask in zip(dataset.labels, case.masks(dataset.labels), strict=True):
        assert np.array_equal(mask, true_regions(seed)[label][box]), label
        assert mask.sum() == true_regions(seed)[label].sum() > 0


def test_a_case_keeps_what_it_has_where_not_all_is_required(tmp_path: Path, convert: Convert) -> None:
    """A cavity that its year does not know and a file that is missing are absent; whoever requires them skips it."""
    write_case(tmp_path / "in", "BraTS2021_00000", 1)
    treated = {"necrosis": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
    folder = write_case(tmp_path / "in", "BraTS-GLI-00005-101", 2, numbers=treated)
    (folder / "BraTS-GLI-00005-101-t1c.nii.gz").unlink()
    regions = ("tumour_core", "necrotic_core", "resection_cavity")
    settings = BratsSettings((Role.T1CE, Role.T2), regions, required=parse_required("any"))
    dataset, skipped = convert(tmp_path / "in", settings)
    assert skipped == ()
    assert (dataset.channels, dataset.labels) == (settings.channels, regions)
    one, other = sorted(dataset.cases, key=lambda case: len(case.channels), reverse=True)
    assert (one.channels, one.labels) == ((Role.T1CE, Role.T2), regions[:2])
    assert (other.channels, other.labels) == ((Role.T2,), regions)
    assert other.masks(("resection_cavity",)).sum() == true_regions(2)["resection_cavity"].sum()
    assert one.masks(("necrotic_core",)).sum() == (anatomy(1) == SUBREGIONS["necrosis"]).sum()
    for required, skips in (("T1CE", "BraTS-GLI-00005-101"), ("resection_cavity", "BraTS2021_00000")):
        again = replace(settings, required=parse_required(required))
        _, (only,) = convert(tmp_path / "in", again, required)
        assert only.where == skips
    (folder / "BraTS-GLI-00005-101-t2w.nii.gz").unlink()
    _, (only,) = convert(tmp_path / "in", settings, "none")
    assert only.reason == "It has none of T1CE, T2. Add the files."


def test_every_year_becomes_the_same_regions(tmp_path: Path, convert: Convert) -> None:
    folder = tmp_path / "in"
    write_case(folder / "HGG", "Brats18_2013_2_1", 1)
    write_case(folder / "2020", "BraTS20_Training_001", 2, end=".nii")
    write_case(folder / "2020", "BraTS20_Training_355", 3, end=".nii", seg="W39_1998.09.19_Segm.nii")
    write_case(folder / "2021", "BraTS2021_00000", 4)
    write_case(folder / "2023", "BraTS-GLI-00005-000", 5)
    treated = {"necrosis": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
    write_case(folder / "2024", "BraTS-GLI-00005-101", 6, numbers=treated)
    dataset, skipped = convert(folder)
    assert skipped == ()
    assert (dataset.channels, dataset.labels) == (
        (Role.T2, Role.FLAIR, Role.T1CE),
        ("tumour_core", "whole_tumour", "enhancing_tumour"),
    )
    assert len(dataset.cases) == 6
    assert_case_is(dataset, "Brats18_2013_2_1", "2013_2", 1)
    assert_case_is(dataset, "BraTS20_Training_001", "BraTS20_Training_001", 2)
    assert_case_is(dataset, "BraTS20_Training_355", "BraTS20_Training_355", 3)
    assert_case_is(dataset, "BraTS2021_00000", "GLI-00000", 4)
    assert_case_is(dataset, "BraTS-GLI-00005-000", "GLI-00005", 5)
    assert_case_is(dataset, "BraTS-GLI-00005-101", "GLI-00005", 6)


def test_the_cavity_is_a_region_of_its_own_since_2024(tmp_path: Path, convert: Convert) -> None:
    treated = {"necrosis": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
    write_case(tmp_path / "in", "BraTS-GLI-00005-101", 6, numbers=treated)
    write_case(tmp_path / "in", "BraTS-GLI-00006-000", 4)
    settings = BratsSettings(channels=(Role.T1, Role.T1CE), regions=("enhancing_tumour", "resection_cavity"))
    dataset, skipped = convert(tmp_path / "in", settings)
    assert_case_is(dataset, "BraTS-GLI-00005-101", "GLI-00005", 6)
    assert [each.where for each in skipped] == ["BraTS-GLI-00006-000"]
    assert "have no region resection_cavity" in skipped[0].reason


def test_a_file_with_other_axes_is_reoriented(tmp_path: Path, convert: Convert) -> None:
    case = write_case(tmp_path / "in", "BraTS2021_00000", 4)
    for path in case.iterdir():
        turned = nibabel.as_closest_canonical(nibabel.load(path))  # RAS: columns and rows run the other way
        nibabel.save(turned, path)
    assert nibabel.load(path).affine[0, 0] == 1
    dataset, _ = convert(tmp_path / "in")
    assert_case_is(dataset, "BraTS2021_00000", "GLI-00000", 4)


def test_unusable_cases_are_skipped_with_a_reason(tmp_path: Path, convert: Convert) -> None:
    folder = tmp_path / "in"
    write_case(folder, "BraTS2021_00000", 1)
    (write_case(folder, "BraTS2021_00001", 2) / "BraTS2021_00001_t2.nii.gz").unlink()
    (write_case(folder, "BraTS2021_00002", 3) / "BraTS2021_00002_seg.nii.gz").unlink()
    # Names of 2021 with the numbers of 2023: a 3 was non-enhancing tumour before 2017.
    write_case(folder, "BraTS2021_00003", 4, numbers={"enhancing": 3})
    write_case(folder, "BraTS-PED-00004-000", 5)
    spoilt = write_case(folder, "BraTS2021_00005", 6) / "BraTS2021_00005_t1ce.nii.gz"
    voxels = images(6)[Role.T1CE].astype(np.float32)
    voxels[5, 5, 5] = np.nan
    write(spoilt, voxels)
    shorter = write_case(folder, "BraTS2021_00006", 7) / "BraTS2021_00006_flair.nii.gz"
    write(shorter, images(7)[Role.FLAIR][1:])
    (write_case(folder, "BraTS2021_00007", 8) / "BraTS2021_00007_t2.nii.gz").write_bytes(b"cut short")
    write_case(folder, "Brats18_TCIA01_131_1", 1)  # the images of the first case
    dataset, skipped = convert(folder)
    assert len(dataset.cases) == 1
    reasons = {each.where: each.reason for each in skipped}
    for name, words in {
        "BraTS2021_00001": "It has no T2",
        "BraTS2021_00002": "It has no segmentation",
        "BraTS2021_00003": "holds 3, which is no label number of its year (0, 1, 2, 4)",
        "BraTS-PED-00004-000": "another task than adult gliomas",
        "BraTS2021_00005": "T1CE holds NaN",
        "BraTS2021_00006": "FLAIR and its segmentation are on different grids",
        "BraTS2021_00007": "BraTS2021_00007_t2.nii.gz is not a readable NIfTI file",
    }.items():
        assert words in reasons.pop(name)
    ((_, reason),) = reasons.items()
    assert "Its images are those of case" in reason


OLD_MAP = {"necrosis": 1, "oedema": 2, "enhancing": 4}


def test_an_old_map_under_a_name_of_2023_is_refused_beside_sound_cases(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "BraTS-GLI-00001-000", 1)
    write_case(tmp_path / "in", "BraTS-GLI-00002-001", 2, numbers=OLD_MAP)
    dataset, skipped = convert(tmp_path / "in")
    assert_case_is(dataset, "BraTS-GLI-00001-000", "GLI-00001", 1)
    assert len(dataset.cases) == len(list((tmp_path / "out" / "cases").iterdir())) == 1
    ((name, reason),) = ((each.where, each.reason) for each in skipped)
    assert name == "BraTS-GLI-00002-001"
    assert "one of 2023, which has no 4" in reason
    assert "Rename an older case with underscores (BraTS2021_00000_seg.nii.gz)" in reason
    # The proposed remedy works.
    write_case(tmp_path / "renamed", "BraTS2021_00002", 2, numbers=OLD_MAP)
    assert_case_is(convert(tmp_path / "renamed", out="renamed-out")[0], "BraTS2021_00002", "GLI-00002", 2)


AFTER_TREATMENT = {"necrosis": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
NUMBERS = "1=NCR,2=ED,3=ET,4=RC"


@pytest.mark.parametrize(
    "name", ["PatientID_0003_Timepoint_2", "P01", "BraTS-GLI-A", "RHUH-0001_1", "Brats16_X_1", "MyBraTS2021_00000"]
)
def test_a_cavity_of_another_set_never_becomes_tumour(tmp_path: Path, convert: Convert, name: str) -> None:
    """A public set after treatment has the files of BraTS, with 3 for enhancing tumour and 4 for the cavity."""
    write_case(tmp_path / "in", name, 1, numbers=AFTER_TREATMENT)
    with pytest.raises(DatasetBroken, match=f"such as {name}.*is of no year.*as in --numbers {NUMBERS}"):
        convert(tmp_path / "in")
    settings = BratsSettings(
        regions=("tumour_core", "whole_tumour", "enhancing_tumour", "resection_cavity"), numbers=parse_numbers(NUMBERS)
    )
    dataset, skipped = convert(tmp_path / "in", settings)
    assert skipped == ()
    found = dict(zip(settings.regions, dataset.cases[0].masks(settings.regions), strict=True))
    assert {label: mask.sum() for label, mask in found.items()} == {
        label: mask.sum() for label, mask in true_regions(1).items()
    }
    assert not (found["resection_cavity"] & found["whole_tumour"]).any()


def test_other_names_are_skipped_beside_those_of_brats(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "BraTS2021_00000", 1)
    write_case(tmp_path / "in", "P01", 2, numbers=AFTER_TREATMENT)
    write_case(tmp_path / "in", "P02", 3, numbers=OLD_MAP)
    dataset, skipped = convert(tmp_path / "in")
    assert_case_is(dataset, "BraTS2021_00000", "GLI-00000", 1)
    assert [each.where for each in skipped] == ["P01", "P02"]
    assert all(f"--numbers {NUMBERS}" in each.reason for each in skipped)


def test_given_numbers_never_contradict_a_name(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "BraTS2021_00000", 1)
    write_case(tmp_path / "in", "BraTS-GLI-00001-000", 2)
    write_case(tmp_path / "in", "BraTS-GLI-00002-001", 3, numbers=AFTER_TREATMENT)
    dataset, skipped = convert(tmp_path / "in", BratsSettings(numbers=parse_numbers(NUMBERS)))
    assert [each.where for each in skipped] == ["BraTS2021_00000"]
    assert "By its name 4 is ET, and --numbers says RC" in skipped[0].reason
    # That a 4 is a cavity contradicts no name of 2023, where it is only unknown.
    assert_case_is(dataset, "BraTS-GLI-00001-000", "GLI-00001", 2)
    assert_case_is(dataset, "BraTS-GLI-00002-001", "GLI-00002", 3)


def test_a_number_that_is_not_given_is_refused(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "P01", 1, numbers=AFTER_TREATMENT)
    write_case(tmp_path / "in", "P02", 2, numbers=OLD_MAP)
    dataset, skipped = convert(tmp_path / "in", BratsSettings(numbers=parse_numbers("1=NET,2=SNFH,4=ET")))
    assert len(dataset.cases) == 1
    assert [each.where for each in skipped] == ["P01"]
    assert "holds 3, which --numbers 1=NCR,2=ED,4=ET does not name" in skipped[0].reason
    with pytest.raises(ValueError, match="whole_tumour is made of NCR and ED and ET"):
        BratsSettings(regions=("whole_tumour",), numbers=parse_numbers("3=ET,4=RC"))
    assert BratsSettings(regions=("enhancing_tumour",), numbers=parse_numbers("3=ET,4=RC")).regions == (
        "enhancing_tumour",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "are given as in"),
        ("ET=3", "and not as 'ET=3'"),
        ("0=ED", "and not as '0=ED'"),
        ("1=NCR,1=ED", "the label number 1 is given twice"),
        ("4=cavity", "a label number cannot mean CAVITY"),
    ],
)
def test_numbers_that_say_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_numbers(text)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("Brats17_TCIA_105_1", UNTIL_2021),
        ("brats18_2013_2_1", UNTIL_2021),
        ("BraTS20_Training_001", UNTIL_2021),
        ("FeTS21_Training_001", UNTIL_2021),
        ("FeTS2022_00000", UNTIL_2021),
        ("BraTS-SSA-00002-000", IN_2023),
        ("BraTS-GLI-02405-100", SINCE_2024),
        ("FeTS2030_00000", None),
        ("BraTS-GLI-00002", None),
    ],
)
def test_only_a_name_of_a_known_year_tells_numbers(name: str, numbers: object) -> None:
    assert read_case_name(name).numbers is numbers


def test_after_treatment_a_cavity_may_be_without_enhancement(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "BraTS-GLI-00005-100", 6, numbers={"necrosis": 1, "oedema": 2, "cavity": 4})
    dataset, skipped = convert(tmp_path / "in", BratsSettings(regions=("enhancing_tumour", "resection_cavity")))
    assert skipped == ()
    enhancing, cavity = dataset.cases[0].masks(("enhancing_tumour", "resection_cavity"))
    assert enhancing.sum() == 0
    assert cavity.sum() == true_regions(6)["resection_cavity"].sum()


def test_patients_are_recognised_across_years(tmp_path: Path, convert: Convert) -> None:
    folder = tmp_path / "in"
    write_case(folder / "2018", "Brats18_CBICA_AAB_1", 1)
    write_case(folder / "2019", "BraTS19_CBICA_AAB_1", 2)
    write_case(folder / "2020", "BraTS20_Training_007", 3)
    for number in range(4, 24):
        write_case(folder / "2021", f"BraTS2021_{number:05}", number)
    table = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID\n"
    (folder / "2020" / "name_mapping.csv").write_text(
        table + "HGG,NA,Brats18_CBICA_AAB_1,BraTS19_CBICA_AAB_1,BraTS20_Training_007\n"
    )
    assert {case.patient for case in find_brats(folder) if "2021" not in case.name} == {"CBICA_AAB"}
    dataset, _ = convert(folder, shares=Shares(0.3, 0.2))
    (of_patient,) = {case.split for case in dataset.cases if case.patient == NAMES("patient", "brats CBICA_AAB")}
    assert of_patient in Split
    # 21 patients, of whom one has three studies.
    patients = [len({case.patient for case in dataset.of(split)}) for split in Split]
    assert patients == [11, 6, 4]
    assert len(dataset.cases) == 23


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Brats17_TCIA_105_1", "Brats18_TCIA08_105_1"),
        ("Brats17_TCIA_105_1", "BraTS19_TCIA08_105_1"),
        ("Brats17_2013_2_1", "Brats18_2013_2_1"),
        ("BraTS2021_00005", "BraTS-GLI-00005-000"),
        ("BraTS-GLI-00005-000", "BraTS-GLI-00005-101"),
        ("BraTS2021_00005", "FeTS2022_00005"),
        ("BraTS20_Training_005", "FeTS21_Training_005"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003_Timepoint_2"),
        ("sub-03_ses-01", "sub-03_ses-02_run-1"),
        ("PatientA_ses-01", "PatientA_ses-02"),
        ("RHUH-0001_0", "RHUH-0001_2"),
        ("UCSD-PTGBM-0176_02", "UCSD-PTGBM-0176_03"),
        ("Patient-001_week-044-1", "Patient-001_week-000"),
        ("P7_preop", "P7_postop_2"),
        ("P7_20200131", "P7_2021-02-01"),
        ("P7_T1", "P7_T2"),
    ],
)
def test_a_patient_under_two_names_is_one(tmp_path: Path, one: str, other: str) -> None:
    for number, name in enumerate((one, other, "Brats17_TCIA_106_1", "BraTS2021_00006")):
        write_case(tmp_path, name, number)
    patients = {case.name: case.patient for case in find_brats(tmp_path)}
    assert patients[one] == patients[other]
    assert len(set(patients.values())) == 3


@pytest.mark.parametrize(
    "names",
    [
        ("Patient_001", "Patient_002"),
        ("Hospital_study_001", "Hospital_study_002"),
        ("TCGA-02-0006", "TCGA-02-0007"),
        ("UPENN-GBM-00001_11", "UPENN-GBM-00002_11"),
        ("site_12345678", "site_12345679"),
        ("P1", "P2"),
    ],
)
def test_two_patients_are_not_one(names: tuple[str, str]) -> None:
    assert len(set(map(patient_in, names))) == 2


def test_a_case_without_a_segmentation_gets_none_of_another(tmp_path: Path, convert: Convert) -> None:
    """In a folder of several cases, and by the name of another case."""
    flat = tmp_path / "in" / "flat"
    for seed, name in enumerate(("BraTS2021_00000", "BraTS2021_00001")):
        for path in write_case(tmp_path / "made", name, seed).iterdir():
            flat.mkdir(parents=True, exist_ok=True)
            path.rename(flat / path.name)
    (flat / "BraTS2021_00001_seg.nii.gz").unlink()
    write_case(tmp_path / "in", "BraTS2021_00002", 2, seg="BraTS2021_00003_seg.nii.gz")
    dataset, skipped = convert(tmp_path / "in")
    assert_case_is(dataset, "BraTS2021_00000", "GLI-00000", 0)
    assert [each.where for each in skipped] == ["BraTS2021_00001", "BraTS2021_00002"]
    assert all("It has no segmentation" in each.reason for each in skipped)


def test_of_two_files_for_one_channel_none_is_taken(tmp_path: Path, convert: Convert) -> None:
    write_case(tmp_path / "in", "BraTS2021_00000", 0)
    case = write_case(tmp_path / "in", "BraTS2021_00001", 1)
    write(case / "BraTS2021_00001_t1gd.nii.gz", images(5)[Role.T1CE])
    other = write_case(tmp_path / "in", "BraTS2021_00002", 2)
    write(other / "BraTS2021_00002_seg.nii", anatomy(5) * 0)
    _, skipped = convert(tmp_path / "in")
    assert [each.where for each in skipped] == ["BraTS2021_00001", "BraTS2021_00002"]
    assert "both BraTS2021_00001_t1ce.nii.gz and BraTS2021_00001_t1gd.nii.gz" in skipped[0].reason
    assert "both BraTS2021_00002_seg.nii and BraTS2021_00002_seg.nii.gz" in skipped[1].reason


def test_label_numbers_are_whole_within_the_rounding_of_a_slope(tmp_path: Path, convert: Convert) -> None:
    """16 bits with a slope make a 1 of 1.00002, and 8 bits one of 1.0039; interpolation makes a 1.3."""
    cases = {"BraTS2021_00000": 1.00002, "BraTS2021_00001": 0.9999, "BraTS2021_00002": 256 / 255}
    for seed, (name, factor) in enumerate(cases.items()):
        path = write_case(tmp_path / "in", name, seed) / f"{name}_seg.nii.gz"
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        scaled = np.where(labels == 1, np.float32(factor), labels.astype(np.float32))
        write(path, np.where(scaled == 0, np.float32(-0.0), scaled))
    sloped = write_case(tmp_path / "in", "BraTS2021_00003", 3) / "BraTS2021_00003_seg.nii.gz"
    header = nibabel.load(sloped)
    stored = nibabel.Nifti1Image(np.asarray(header.dataobj, np.int16) * 8191, header.affine)
    stored.header.set_slope_inter(4.0001 / 32764, 0)
    stored.to_filename(sloped)
    assert nibabel.load(sloped).get_fdata().max() != 4
    for seed, value in ((4, 1.3), (5, np.nan)):
        path = write_case(tmp_path / "in", f"BraTS2021_0000{seed}", seed) / f"BraTS2021_0000{seed}_seg.nii.gz"
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
        write(path, np.where(labels == 1, np.float32(value), labels))
    dataset, skipped = convert(tmp_path / "in")
    for seed, name in enumerate((*cases, "BraTS2021_00003")):
        assert_case_is(dataset, name, f"GLI-0000{seed}", seed)
    reasons = {each.where: each.reason for each in skipped}
    assert "BraTS2021_00004_seg.nii.gz holds values that are no whole numbers (1.3)" in reasons["BraTS2021_00004"]
    assert "BraTS2021_00005_seg.nii.gz holds NaN" in reasons["BraTS2021_00005"]


def test_a_patient_under_two_names_is_known_by_equal_images(tmp_path: Path, convert: Convert) -> None:
    """Equal images tie the names together, so that other studies of that patient are in one split."""
    for seed in range(12):
        write_case(tmp_path / "in", f"BraTS2021_{seed:05}", seed)
        write_case(tmp_path / "in", f"Brats18_CBICA_{seed}_1", seed)
        write_case(tmp_path / "in", f"Brats18_CBICA_{seed}_2", 100 + seed)
    dataset, skipped = convert(tmp_path / "in", shares=Shares(0.3, 0.3))
    assert len(skipped) == 12
    splits = {case.patient: case.split for case in dataset.cases}
    assert len(splits) == 24
    for seed in range(12):
        names = (f"brats GLI-{seed:05}", f"brats CBICA_{seed}")
        assert len({splits[NAMES("patient", name)] for name in names}) == 1
    assert len(set(splits.values())) == 3


def test_another_spacing_resamples_around_the_same_centre(tmp_path: Path, convert: Convert) -> None:
    folder = tmp_path / "in"
    write_case(folder, "BraTS2021_00000", 1)
    dataset, _ = convert(folder, BratsSettings(spacing_mm=2.0))
    finer, _ = convert(folder, out="finer")
    assert dataset.spacing_mm == 2.0
    (case,), (fine,) = dataset.cases, finer.cases
    assert case.geometry.spacing_mm == pytest.approx((2, 2, 2))
    assert np.allclose(case.geometry.centre_mm, fine.geometry.centre_mm, atol=0.01)


def test_a_data_set_may_do_without_t1ce(tmp_path: Path, convert: Convert) -> None:
    """The head is then found on another channel."""
    write_case(tmp_path / "in", "BraTS2021_00000", 1)
    dataset, skipped = convert(tmp_path / "in", BratsSettings(channels=(Role.T2, Role.FLAIR)))
    assert skipped == ()
    (case,) = dataset.cases
    assert (case.channels, case.reference) == ((Role.T2, Role.FLAIR), Role.FLAIR)
    (t2,) = case.normalised((Role.T2,))
    assert torch.equal(t2, case.normalised((Role.FLAIR, Role.T2))[1])
    assert t2.min() < 0 < t2.max()
    assert not [each for each in check_dataset(dataset, lambda *_: None) if each.wrong]


def test_numbers_of_each_year_are_those_of_the_challenge() -> None:
    assert UNTIL_2021.regions == {
        "tumour_core": (1, 4),
        "whole_tumour": (1, 2, 4),
        "enhancing_tumour": (4,),
        "necrotic_core": (1,),
    }
    assert IN_2023.regions == {
        "tumour_core": (1, 3),
        "whole_tumour": (1, 2, 3),
        "enhancing_tumour": (3,),
        "necrotic_core": (1,),
    }
    assert SINCE_2024.regions == {**IN_2023.regions, "resection_cavity": (4,)}
    assert parse_numbers(NUMBERS) == SINCE_2024


def test_a_folder_without_cases_is_refused(tmp_path: Path, convert: Convert) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetBroken, match="holds no BraTS case"):
        convert(tmp_path / "in")
