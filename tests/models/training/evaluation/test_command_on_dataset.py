"""`glionode evaluate` and `glionode reader-study make` on a data set, from the command line to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.package import ModelPackage
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Split
from plugin.commands.evaluate import evaluate
from plugin.commands.reader_study import reader_study_app
from plugin.commands.terminal import FAILED, WRONG_USAGE

app = typer.Typer()
app.command()(evaluate)
app.add_typer(reader_study_app, name="reader-study")
runner = CliRunner()

BALL, OTHER = ((20.0, 24.0, 14.0), 5.0), ((12.0, 16.0, 27.0), 3.0)
pytestmark = pytest.mark.usefixtures("high_adc_network")


@pytest.fixture
def dataset(toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object]) -> Dataset:
    """One case with one lesion, one with two."""
    return toy_dataset(toy_case((BALL,)), toy_case((BALL, OTHER)))


def test_evaluate_writes_tables_and_a_page(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
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

    result = runner.invoke(app, ["evaluate", *given[:2], str(tmp_path / "anew"), "--threads", "1", "--device", "cpu"])
    assert result.exit_code == FAILED
    assert f"Not measured, {dataset.cases[0].case_id}: " in result.stderr
    assert json.loads((tmp_path / "anew" / "evaluation.json").read_text())["cases"] == 1


def test_wrong_groups_are_refused_before_the_work(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    groups = tmp_path / "groups.csv"
    groups.write_text("case,status\nnobody,new\n")
    given = [str(make_package().folder), str(dataset.folder), "--groups", str(groups), "--threads", "1"]
    result = runner.invoke(app, ["evaluate", *given])
    assert result.exit_code == FAILED
    assert "names none of the cases" in result.stderr
    assert result.stdout == ""


def test_groups_of_other_splits_are_refused_before_the_work(
    toy_dataset: Callable[..., Dataset],
    toy_case: Callable[..., object],
    make_package: Callable[..., ModelPackage],
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    dataset = toy_dataset(toy_case((BALL,)), toy_case((OTHER,), split=Split.TRAIN))
    groups = tmp_path / "groups.csv"
    (trained,) = dataset.of(Split.TRAIN)
    groups.write_text(f"case,status\n{trained.case_id},new\n")
    given = [str(make_package().folder), str(dataset.folder), str(tmp_path / "out"), "--groups", str(groups)]
    result = runner.invoke(app, ["evaluate", *given, "--threads", "1"])
    assert result.exit_code == FAILED
    assert "names none of the cases" in result.stderr
    assert result.stdout == ""


def test_groups_may_name_only_cases_that_are_left_out(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    groups, out = tmp_path / "groups.csv", tmp_path / "out"
    groups.write_text(f"case,status\n{dataset.cases[0].case_id},new\n")
    (dataset.cases[0].folder / "label-enhancing_tumour.nii.gz").unlink()
    given = [str(make_package().folder), str(dataset.folder), str(out), "--groups", str(groups)]
    result = runner.invoke(app, ["evaluate", *given, "--threads", "1", "--device", "cpu"])
    assert result.exit_code == FAILED
    assert f"Not measured, {dataset.cases[0].case_id}: " in result.stderr
    assert json.loads((out / "evaluation.json").read_text())["cases"] == 1


def test_an_old_order_of_the_arguments_is_refused(
    dataset: Dataset, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    package, out = str(make_package().folder), str(tmp_path / "out")
    for given, complaint in (
        ([package, out, str(dataset.folder)], "the order is `evaluate MODEL DATASET OUT`"),
        ([package, str(dataset.folder), "--out", out], "--out is now the last argument"),
        ([package, str(dataset.folder), out, "--synthetic"], "--synthetic measures no data set"),
        ([package, str(dataset.folder), "--synthetic"], "--synthetic measures no data set"),
        ([package], "Say what to measure on"),
    ):
        result = runner.invoke(app, ["evaluate", *given])
        assert result.exit_code == WRONG_USAGE
        assert complaint in result.stderr
    assert not Path(out).exists()


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
