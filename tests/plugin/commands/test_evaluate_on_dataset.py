"""`glionode evaluate` and `glionode reader-study make` on a data set, from the command line to the files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator, Split
from models.training.dataset.name_table import CaseSource, NamedCase, add_names
from plugin.commands.app import app
from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.ball_dataset import BallCase, write_ball_dataset

runner = CliRunner()

BALL, OTHER = ((20.0, 24.0, 14.0), 5.0), ((12.0, 16.0, 27.0), 3.0)
pytestmark = pytest.mark.usefixtures("high_adc_network")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Write a data set to test on: one case with one lesion, one with two."""
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    return write_ball_dataset(tmp_path / "set", BallCase((BALL,)), BallCase((BALL, OTHER)))


def test_evaluate_writes_tables_and_a_page(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "groups.csv"
    rows = [f"{case.case_id},{status}" for case, status in zip(dataset.cases, ("new", "recurrent"), strict=True)]
    groups.write_text("\n".join(["case,status", *rows]) + "\n")
    package, out = str(make_package().folder), tmp_path / "out"
    given = [package, str(dataset.folder), str(out), "--groups", str(groups), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["/bin/glionode", "evaluate", *given])
    result = runner.invoke(app, ["evaluate", *given, "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert f"1 of 2: {dataset.cases[0].case_id}: enhancing_tumour 1.00 (" in result.stdout
    assert "enhancing_tumour: median Dice 0.9" in result.stdout
    numbers = json.loads((out / "evaluation.json").read_text())
    assert {each["grouping"] for each in numbers["comparisons"]} == {"status", "focality"}
    assert numbers["dataset_fingerprint"] == dataset.fingerprint
    assert str(tmp_path) not in numbers["command"]  # the report goes to others
    assert str(tmp_path) not in (out / "report.html").read_text()

    (dataset.cases[0].folder / "label-enhancing_tumour.nii.gz").unlink()
    kept = runner.invoke(app, ["evaluate", *given, "--threads", "1"])
    assert kept.exit_code == 0
    assert "Measured by an earlier run, and kept: 2 of 2." in kept.stdout
    assert json.loads((out / "evaluation.json").read_text()) == numbers

    # Groups may name a case of the split that cannot be measured, and no other.
    groups.write_text(f"case,status\n{dataset.cases[0].case_id},new\n")
    result = runner.invoke(app, ["evaluate", *given[:2], str(tmp_path / "anew"), *given[3:], "--threads", "1"])
    assert result.exit_code == FAILED
    assert f"Not measured, {dataset.cases[0].case_id}: " in result.stderr
    assert json.loads((tmp_path / "anew" / "evaluation.json").read_text())["cases"] == 1


@pytest.mark.parametrize("split", [None, Split.TRAIN])
def test_groups_of_no_case_that_is_measured_are_refused_before_the_work(
    split: Split | None, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,)), BallCase((OTHER,), split=Split.TRAIN))
    named = dataset.of(split)[0].case_id if split else "nobody"
    groups = tmp_path / "groups.csv"
    groups.write_text(f"case,status\n{named},new\n")
    given = [str(make_package().folder), str(dataset.folder), str(tmp_path / "out"), "--groups", str(groups)]
    result = runner.invoke(app, ["evaluate", *given, "--threads", "1"])
    assert result.exit_code == FAILED
    assert "names none of the cases" in result.stderr
    assert result.stdout == ""


def test_the_dice_is_told_by_the_channels_that_there_were(
    make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    """The network of these tests sees a lesion on ADC alone, so without ADC it finds none."""
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    cases = BallCase((BALL,)), BallCase((OTHER,), lacks=("ADC", "adc_abnormality"))
    dataset, package = write_ball_dataset(tmp_path / "set", *cases), make_package(optional=(Role.ADC, Role.FLAIR))
    given = [str(package.folder), str(dataset.folder)]
    result = runner.invoke(app, ["evaluate", *given, str(tmp_path / "out"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "adc_abnormality is absent from 1 of 2 cases, which are not scored on it." in result.stderr
    assert "median Dice 0.9" in next(line for line in result.stdout.splitlines() if line.startswith("adc_abnormality:"))
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in result.stdout.splitlines()]
    assert ["without ADC", "enhancing_tumour", "1", "1", "0.000", "0.000", "0.000", "yes"] in rows
    assert not [row for row in rows if row[:2] == ["without ADC", "adc_abnormality"]]
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [(each["channels"], each["absent"], each["cases"]) for each in numbers["subsets"]] == [
        ("all", [], 1),
        ("without ADC", ["ADC"], 1),
    ]
    assert list(numbers["subsets"][1]["labels"]) == ["enhancing_tumour", "flair_hyperintensity"]
    assert numbers["labels"]["adc_abnormality"]["cases"] == 1
    assert "<td>without ADC</td>" in (tmp_path / "out" / "report.html").read_text()

    result = runner.invoke(app, ["evaluate", *given, str(tmp_path / "less"), "--threads", "1", "--without", "FLAIR"])
    assert result.exit_code == 0, result.output
    subsets = json.loads((tmp_path / "less" / "evaluation.json").read_text())["subsets"]
    assert [(each["channels"], each["cases"]) for each in subsets] == [
        ("all", 1),
        ("without ADC", 1),
        ("without FLAIR", 1),
        ("T1CE alone", 1),
    ]
    csv_rows = list(csv.DictReader((tmp_path / "less" / "cases.csv").open()))
    assert {(row["case"], row["absent_channels"]) for row in csv_rows} == {
        (case.case_id, absent)
        for case in dataset.cases
        for absent in (("", "FLAIR") if Role.ADC in case.channels else ("ADC", "ADC FLAIR"))
    }
    # What is measured once more counts in its own rows alone.
    whole, less = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("out", "less"))
    assert whole["labels"] == less["labels"]
    assert (whole["cases"], less["cases"]) == (2, 2)
    assert "| without FLAIR | flair_hyperintensity | 1 " in result.stdout
    assert " no " in next(line for line in result.stdout.splitlines() if "without FLAIR | flair_hyper" in line)
    for channel, words in (("T1CE", "cannot do without T1CE"), ("T9", "'T9' is not a valid Role")):
        refused = runner.invoke(app, ["evaluate", *given, str(tmp_path / "no"), "--without", channel])
        assert refused.exit_code == WRONG_USAGE
        assert words in refused.stderr


def test_a_reader_study_is_made(dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    out, package = tmp_path / "reading", str(make_package().folder)
    options = ["--cases", "1", "--repeats", "0.5", "--slices", "3", "--device", "cpu", "--threads", "1"]
    given = ["reader-study", "make", package, str(dataset.folder), str(out), *options]
    result = runner.invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "Items: 3; cases: 1; readers: 2." in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["for-readers", "key.json"]
    assert len(list((out / "for-readers" / "pictures").iterdir())) == 3 * 3 * 2
    again = runner.invoke(app, given)
    assert again.exit_code == FAILED
    assert "already holds files" in again.stderr
    assert runner.invoke(app, [*given, "--split", "best"]).exit_code == WRONG_USAGE


def test_evaluate_names_cases_from_the_table_beside_the_key(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    first, second = dataset.cases
    sources = (CaseSource("BraTS2021_00000", tmp_path / "a", public=True), CaseSource("1.2.3", tmp_path / "b", False))
    add_names(key, [NamedCase(first.case_id, "p", sources[0]), NamedCase(second.case_id, "q", sources[1])])
    package = str(make_package().folder)

    def measured(out: str, *options: str) -> str:
        given = [package, str(dataset.folder), str(tmp_path / out), "--key", str(key), "--threads", "1", *options]
        result = runner.invoke(app, ["evaluate", *given])
        assert result.exit_code == 0, result.output
        written = [path for path in (tmp_path / out).rglob("*") if path.is_file()]
        assert written
        assert not [
            path for path in written if b"BraTS2021_00000" in path.read_bytes() or b"1.2.3" in path.read_bytes()
        ]
        return result.output

    public = measured("public")
    assert f"{first.case_id} (BraTS2021_00000): " in public
    assert f"{second.case_id}: " in public
    assert f"{second.case_id} (1.2.3): " in measured("all", "--names")


def test_empty_truth_is_no_perfect_score(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    """Dice is 1 where both masks are empty; a median over such cases would say that lesions are found."""
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    cases = (BallCase(()), BallCase(()), BallCase((BALL,), drawn=(OTHER,)))
    dataset = write_ball_dataset(tmp_path / "set", *cases)
    given = [str(make_package().folder), str(dataset.folder)]
    result = runner.invoke(app, ["evaluate", *given, str(tmp_path / "out"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "enhancing_tumour: median Dice 0.000 over 1 cases; it is in none of the other 2" in result.stdout
    empty = write_ball_dataset(tmp_path / "empty", *cases[:2])
    result = runner.invoke(app, ["evaluate", given[0], str(empty.folder), str(tmp_path / "none"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "enhancing_tumour: none of 2 cases holds it, so nothing is known of how well it is found" in result.stdout


def test_an_evaluation_of_nothing_is_a_failure(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    by_node = {label.name: Annotator.NODE for label in PAPER_LABELS}
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,), drawn_by=by_node))
    given = [str(make_package().folder), str(dataset.folder), str(tmp_path / "out"), "--threads", "1"]
    result = runner.invoke(app, ["evaluate", *given])
    assert result.exit_code == FAILED
    assert "None of the 1 cases could be measured, so there is no report." in result.stderr
    assert not (tmp_path / "out" / "report.html").exists()


def test_what_nobody_annotated_is_told(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    """It counts as empty because someone asked for that, which is no finding of a person."""
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    cases = (BallCase((BALL,), drawn_by={"adc_abnormality": Annotator.NOBODY}), BallCase((OTHER,)))
    dataset = write_ball_dataset(tmp_path / "set", *cases)
    given = [str(make_package().folder), str(dataset.folder), str(tmp_path / "out"), "--threads", "1"]
    result = runner.invoke(app, ["evaluate", *given])
    assert result.exit_code == 0, result.output
    assert "Nobody annotated adc_abnormality in 1 of 2 cases, where it counts as empty" in result.stderr
    assert result.stderr.count("Nobody annotated") == 1
