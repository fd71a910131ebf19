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
    assert "BraTS2021_00002: It has no T2. Add the file, request other channels, or do not require it" in made.stderr
    assert "Wrote 2 cases" in made.stdout
    # T2 is needed no more when it is not requested.
    made = run("from-brats", source, tmp_path / "three", "--key", tmp_path / "key", "--channels", "FLAIR,T1CE")
    assert made.exit_code == 0
    assert "Wrote 3 cases" in made.stdout


def test_cases_that_lack_something_are_written_on_request_and_shown(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 3, without="t2")
    options = ("--key", tmp_path / "key", "--labels", "WT,ET,RC", "--require", "WT,FLAIR")
    made = run("from-brats", source, tmp_path / "out", *options)
    assert made.exit_code == 0, made.output
    assert "Note on study BraTS2021_00002: It has no T2 and no resection_cavity." in made.stderr
    assert "Note on study BraTS2021_00000: It has no resection_cavity." in made.stderr
    checked = run("check", tmp_path / "out")
    assert checked.exit_code == 0, checked.output
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in checked.stdout.splitlines()]
    assert ["cases", "T2", "FLAIR", "T1CE", "whole_tumour", "enhancing_tumour"] in rows
    assert ["2", "x", "x", "x", "x", "x"] in rows
    assert ["1", "-", "x", "x", "x", "x"] in rows
    assert ["3 in all", "2", "3", "3", "3", "3"] in rows
    assert ["label", "person", "absent"] in rows
    page = (tmp_path / "out" / "check" / "index.html").read_text()
    assert "<td>3 in all</td><td>2</td>" in page
    assert page.count("it has no T2<") == 1
    refused = run("from-brats", source, tmp_path / "not", "--key", tmp_path / "key", "--require", "ADC")
    assert refused.exit_code == WRONG_USAGE
    assert "ADC is required, and is not among the channels and labels" in refused.stderr


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


def case_ids(folder: Path) -> list[str]:
    return sorted(json.loads((folder / "dataset.json").read_text())["cases"])


def test_a_table_beside_the_key_leads_back_to_public_names(tmp_path: Path) -> None:
    source, out, key = write_brats(tmp_path / "in", 3), tmp_path / "out", tmp_path / "keys" / "key"
    assert run("from-brats", source, out, "--key", key).exit_code == 0
    table = tmp_path / "keys" / "key.names.csv"
    assert table.stat().st_mode & 0o777 == 0o600
    first = case_ids(out)[0]
    told = run("names", out, first, "--key", key)
    assert told.exit_code == 0, told.output
    header, row = told.stdout.splitlines()
    assert header == "case,name,path"
    case, name, path = row.split(",")
    assert case == first
    assert name.startswith("BraTS2021_0000")
    assert path == str(source / name)
    assert len(run("names", out, "--key", key).stdout.splitlines()) == 1 + 3
    # A sentence about the case names it; what may be given away does not.
    (out / "cases" / first / "channel-T2.nii.gz").unlink()
    checked = run("check", out, "--key", key)
    assert f"{first} ({name}): channel-T2.nii.gz is missing" in checked.stderr
    files = [each for each in out.rglob("*") if each.is_file()]
    assert (out / "check" / "index.html") in files
    assert not [each for each in files if b"BraTS2021" in f"{each.relative_to(out)}".encode() + each.read_bytes()]


def test_names_of_a_site_are_kept_and_shown_on_request_only(tmp_path: Path) -> None:
    source, key = write_brats(tmp_path / "in", 2, name_format="Patient{}"), ("--key", tmp_path / "key")
    numbers = ("--numbers", "1=NCR,2=ED,4=ET")
    assert run("from-brats", source, tmp_path / "quiet", *key, *numbers).exit_code == 0
    assert not (tmp_path / "key.names.csv").exists()
    unknown = run("names", tmp_path / "quiet", *key)
    assert unknown.exit_code == FAILED
    assert "2 cases have no name in" in unknown.stderr
    assert "make it again with --names" in unknown.stderr
    assert "names none of these cases" in run("check", tmp_path / "quiet", *key, "--names").stderr
    out = tmp_path / "out"
    assert run("from-brats", source, out, *key, *numbers, "--names").exit_code == 0
    first = case_ids(out)[0]
    (out / "cases" / first / "channel-T2.nii.gz").unlink()
    assert "Patient" not in run("check", out, *key).output
    assert f"{first} (Patient" in run("check", out, *key, "--names").stderr
    assert "Patient0" in run("names", out, *key).stdout
    stranger = run("names", out, "0" * 16, *key)
    assert stranger.exit_code == FAILED
    assert "has no case 0000000000000000" in stranger.stderr


def test_the_table_is_never_doubled_opened_or_guessed(tmp_path: Path) -> None:
    source, key = write_brats(tmp_path / "in", 2), ("--key", tmp_path / "key")
    assert run("from-brats", source, tmp_path / "one", *key).exit_code == 0
    table = tmp_path / "key.names.csv"
    rows = table.read_text()
    table.chmod(0o644)
    write_brats(source, 1, first=7)
    assert run("from-brats", source, tmp_path / "two", *key).exit_code == 0
    assert table.read_text().startswith(rows)
    assert len(table.read_text().splitlines()) == 1 + 3
    assert table.stat().st_mode & 0o777 == 0o600
    table.write_text("case,patient,public,name,path\nabc,def,perhaps,a name,a path\n")
    refused = run("check", tmp_path / "one", *key)
    assert refused.exit_code == FAILED
    assert "key.names.csv is damaged" in refused.stderr


def test_two_names_of_the_same_images_are_told(tmp_path: Path) -> None:
    source = write_brats(tmp_path / "in", 1)
    copy = source / "Brats18_CBICA_AAB_1"
    copy.mkdir()
    for path in (source / "BraTS2021_00000").iterdir():
        (copy / path.name.replace("BraTS2021_00000", copy.name)).write_bytes(path.read_bytes())
    made = run("from-brats", source, tmp_path / "out", "--key", tmp_path / "key")
    (case,) = case_ids(tmp_path / "out")
    assert f"Brats18_CBICA_AAB_1: Its images are those of case {case} (BraTS2021_00000)" in made.stderr


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
        (("from-brats", "IN", "OUT", "--numbers", "1=ED"), WRONG_USAGE, "tumour_core is made of NCR and ET"),
        (("from-brats", "IN/absent", "OUT"), WRONG_USAGE, "is not a folder"),
        (("from-brats", "IN", "OUT", "--key", "OUT/key"), FAILED, "would be inside of the data set"),
        (("from-brats", "IN", "IN"), WRONG_USAGE, "is the input itself"),
        (("from-brats", "IN", "OUT used"), FAILED, "already holds files"),
        (("from-dicom", "IN", "OUT", "--map", "oedema"), WRONG_USAGE, "--map needs NAME=LABEL"),
        (("from-dicom", "IN", "OUT", "--map", "oedema=swelling"), WRONG_USAGE, "there is no label swelling"),
        (("from-dicom", "IN", "OUT", "--labels", "TC,swelling"), WRONG_USAGE, "there is no label swelling"),
        (("from-dicom", "IN", "OUT", "--labels", "TC", "--require", "WT"), WRONG_USAGE, "whole_tumour is required"),
        (("from-dicom", "IN", "OUT", "--values", "words"), WRONG_USAGE, "'words' is not a valid LabelMapValues"),
        (("from-dicom", "IN", "OUT"), FAILED, "holds no DICOM study"),
        (("check", "IN"), FAILED, "is not a data set"),
    ],
)
def test_every_refusal_is_one_sentence(arguments: tuple[str, ...], status: int, words: str, tmp_path: Path) -> None:
    write_brats(tmp_path / "IN", 1)
    (tmp_path / "OUT used").mkdir()
    (tmp_path / "OUT used" / "thesis.txt").touch()
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
