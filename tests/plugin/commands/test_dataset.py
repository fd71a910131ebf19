"""`glionode dataset` makes and checks data sets, says what it skipped, and ends with the documented status."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

from plugin.commands.app import app
from plugin.commands.terminal import FAILED, WRONG_USAGE

pytest.importorskip("nibabel", reason="data sets need the extra glionode[train]")


def write_brats(folder: Path, count: int, without: str = "", first: int = 0, name_format: str = "") -> Path:
    """Cases of 2021; of the last one a file is missing."""
    for number in range(first, first + count):
        name = (name_format or "BraTS2021_{:05}").format(number)
        (folder / name).mkdir(parents=True)
        generator = np.random.default_rng(number)
        labels = generator.choice((0, 1, 2, 4), size=(8, 10, 9)).astype(np.uint8)
        for what in ("flair", "t1", "t1ce", "t2", "seg"):
            voxels = labels if what == "seg" else generator.integers(1, 900, labels.shape).astype(np.int16)
            if number < first + count - 1 or what != without:
                sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / name / f"{name}_{what}.nii.gz"))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def test_brats_becomes_a_data_set_that_checks(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 6)
    key = tmp_path / "key"
    made = run("from-brats", source, tmp_path / "out", "--key", key, "--test", "0.2")
    assert made.exit_code == 0, made.output
    assert "Wrote 6 cases of 6 patients" in made.stdout
    assert "(4 train, 1 validation, 1 test); 0 studies skipped" in made.stdout
    checked = run("check", tmp_path / "out")
    assert checked.exit_code == 0, checked.output
    assert "6 cases, 0 errors" in checked.stdout
    assert (tmp_path / "out" / "check" / "index.html").is_file()
    kept = ("--seed", "9", "--splits-from", tmp_path / "out")
    again = run("from-brats", source, tmp_path / "again", "--key", key, *kept)
    assert again.exit_code == 0, again.output
    first, second = (json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("out", "again"))
    assert first["splits"] == second["splits"]
    other = run("from-brats", source, tmp_path / "other", "--key", tmp_path / "another key", "--test", "0.2")
    assert other.exit_code == 0
    assert not set(first["cases"]) & set(json.loads((tmp_path / "other" / "dataset.json").read_text())["cases"])


def test_splits_are_kept_only_under_the_same_key(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 3)
    key = ("--key", tmp_path / "key")
    assert run("from-brats", source, tmp_path / "first", *key).exit_code == 0
    kept = ("--splits-from", tmp_path / "first")
    refused = run("from-brats", source, tmp_path / "second", "--key", tmp_path / "another key", *kept)
    assert refused.exit_code == FAILED
    assert "was made with another key" in refused.stderr
    assert "Give its key with --key." in refused.stderr
    assert not (tmp_path / "second").exists()
    assert "None of the patients" not in run("from-brats", source, tmp_path / "second", *key, *kept).stderr
    others = write_brats(tmp_path / "others", 2, first=3)
    made = run("from-brats", others, tmp_path / "third", *key, *kept)
    assert made.exit_code == 0
    assert "None of the patients of" in made.stderr
    assert "--splits-from had no effect" in made.stderr
    key_text = (tmp_path / "key").read_text().strip()
    assert key_text[:16] not in (tmp_path / "first" / "dataset.json").read_text()


def test_skipped_cases_are_named_and_change_the_status(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 3, without="t2")
    made = run("from-brats", source, tmp_path / "out", "--key", tmp_path / "key")
    assert made.exit_code == FAILED
    assert "BraTS2021_00002: It has no T2. Add the file, or request other channels." in made.stderr
    assert "Wrote 2 cases" in made.stdout
    # T2 is needed no more when it is not requested.
    made = run("from-brats", source, tmp_path / "three", "--key", tmp_path / "key", "--channels", "FLAIR,T1CE")
    assert made.exit_code == 0
    assert "Wrote 3 cases" in made.stdout


def test_a_folder_without_cases_can_be_used_again(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 1, without="t2")
    options = (source, tmp_path / "out", "--key", tmp_path / "key")
    first = run("from-brats", *options)
    assert first.exit_code == FAILED
    assert "No study became a case, so no data set was made." in first.stderr
    assert run("from-brats", *options, "--channels", "FLAIR,T1CE").exit_code == 0


def test_numbers_are_asked_for_where_no_name_tells_them(tmp_path: Path) -> None:
    """The folder can be used again after the refusal, and time points of a patient stay together."""
    source = write_brats(tmp_path / "in", 4, name_format="PatientID_0003_Timepoint_{}")
    write_brats(source, 1, name_format="PatientID_0004_Timepoint_1", first=9)
    options = (source, tmp_path / "out", "--key", tmp_path / "key")
    refused = run("from-brats", *options)
    assert refused.exit_code == FAILED
    (line,) = refused.stderr.strip().splitlines()
    assert "None of the 5 cases, such as PatientID_0003_Timepoint_0, can be used" in line
    assert "give it as in --numbers 1=NCR,2=ED,3=ET,4=RC" in line
    made = run("from-brats", *options, "--numbers", "1=NCR,2=ED,4=ET")
    assert made.exit_code == 0, made.output
    assert "Wrote 5 cases of 2 patients" in made.stdout
    patients = [
        case["patient"] for case in json.loads((tmp_path / "out" / "dataset.json").read_text())["cases"].values()
    ]
    assert sorted(map(patients.count, set(patients))) == [1, 4]


def test_a_broken_set_fails_its_check(tmp_path: Path) -> None:
    run("from-brats", write_brats(tmp_path / "in", 2), tmp_path / "out", "--key", tmp_path / "key")
    next((tmp_path / "out").rglob("channel-T2.nii.gz")).unlink()
    checked = run("check", tmp_path / "out")
    assert checked.exit_code == FAILED
    assert "channel-T2.nii.gz is missing or damaged" in checked.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("from-brats", "IN", "OUT", "--channels", "ADC,T1CE"), WRONG_USAGE, "BraTS has no ADC"),
        (("from-brats", "IN", "OUT", "--test", "0.9"), WRONG_USAGE, "their sum must be below 1"),
        (("from-brats", "IN", "OUT", "--numbers", "3=cavity"), WRONG_USAGE, "a label number cannot mean CAVITY"),
        (("from-brats", "IN", "OUT", "--numbers", "1=ED"), WRONG_USAGE, "TC is made of NCR and ET"),
        (("from-brats", "IN/absent", "OUT"), WRONG_USAGE, "is not a folder"),
        (("from-brats", "IN", "OUT", "--key", "OUT/key"), FAILED, "would be inside of the data set"),
        (("from-brats", "IN", "IN"), FAILED, "already holds files"),
        (("from-dicom", "IN", "OUT", "--map", "oedema"), WRONG_USAGE, "--map needs NAME=LABEL"),
        (("from-dicom", "IN", "OUT", "--map", "oedema=swelling"), WRONG_USAGE, "there is no label swelling"),
        (("from-dicom", "IN", "OUT", "--values", "words"), WRONG_USAGE, "'words' is not a valid LabelMapValues"),
        (("from-dicom", "IN", "OUT"), FAILED, "holds no DICOM study"),
        (("check", "IN"), FAILED, "is not a data set"),
    ],
)
def test_every_refusal_is_one_sentence(arguments: tuple[str, ...], status: int, words: str, tmp_path: Path) -> None:
    write_brats(tmp_path / "IN", 1)
    given = [str(tmp_path / each) if each.startswith(("IN", "OUT")) else each for each in arguments]
    if arguments[0] != "check" and "--key" not in arguments:
        given += ["--key", str(tmp_path / "key")]
    result = run(*given)
    assert result.exit_code == status, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "OUT" / "dataset.json").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nibabel" else real(name))
    result = run("from-brats", tmp_path, tmp_path / "out")
    assert result.exit_code == WRONG_USAGE
    assert "Install glionode[train]" in result.stderr
