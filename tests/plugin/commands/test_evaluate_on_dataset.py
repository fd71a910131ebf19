"""`glionode evaluate` and `glionode reader-study make` on a data set, from the command line to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.package import ModelPackage
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Split
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
