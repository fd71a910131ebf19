"""`glionode evaluate --synthetic` from the command line to the model card."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.package import CARD_FILE, ModelPackage
from models.training.evaluation.cases import SyntheticSelection
from models.training.evaluation.code_fingerprint import fingerprint
from models.training.evaluation.evaluation_card import METRICS_FILE
from models.training.evaluation.journal import open_journal
from models.training.evaluation.measure_case import MeasureSettings
from models.training.synthetic.families import Family
from plugin.commands import evaluate as command
from plugin.commands.app import app
from plugin.commands.terminal import FAILED

runner = CliRunner()
NO_HEADS = ("--heads", "0", "--lesion-free", "0", "--device", "cpu")


@pytest.mark.usefixtures("finds_marks")
def test_a_study_that_fails_leaves_the_others_in_the_card(
    marked_study: tuple[Path, object], make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    package = make_package()
    shutil.copytree(marked_study[0], tmp_path / "broken", ignore=shutil.ignore_patterns("truth_flair*"))
    studies = ["--study", str(marked_study[0]), "--study", str(tmp_path / "broken")]
    given = ["evaluate", str(package.folder), "--synthetic", *NO_HEADS, str(tmp_path / "out"), *studies]
    result = runner.invoke(app, given)
    assert result.exit_code == FAILED
    assert "1 of 2: real, a-study: enhancing_tumour 0." in result.stdout
    assert "Not measured, real, broken: broken has no truth_flair.nii.gz" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [
        "cases.csv",
        "evaluation.json",
        "report.html",
    ]
    card = (package.folder / CARD_FILE).read_text()
    assert "Not measured, because something failed: real, broken." in card
    assert "![real, best](real-best.png)" in card
    metrics = json.loads((package.folder / METRICS_FILE).read_text())
    score = metrics["cases"][0]["labels"]["adc_abnormality"]
    row = [cell.strip() for line in result.stdout.splitlines() if "| ADC " in line for cell in line.split("|")]
    assert row[1:8] == [
        *("a-study", "adc_abnormality", "ADC", f"{score['dice']:.3f}", f"{score['hd95_mm']:.3f}"),
        *(f"{score['true_ml']:.3f}", f"{score['found_ml']:.3f}"),
    ]
    again = runner.invoke(app, given[:-2])
    assert again.exit_code == 0
    assert "Measured by an earlier run, and kept: 1 of 1." in again.stdout
    assert json.loads((package.folder / METRICS_FILE).read_text())["cases"] == metrics["cases"]


def test_the_options_select_what_is_measured(
    make_package: Callable[..., ModelPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nilearn", reason="heads of other families need the extra glionode[train]")
    package = make_package()
    asked: list[tuple[SyntheticSelection, command._Run, float]] = []

    def stop(run: command._Run, selection: SyntheticSelection, spacing_mm: float) -> None:
        asked.append((selection, run, spacing_mm))
        raise typer.Exit

    monkeypatch.setattr(command, "_evaluate_on_heads", stop)
    options = ["--heads", "3", "--lesion-free", "4", "--workers", "2", "--spacing", "2", "--seed0", "1000007"]
    for families in ([], ["--family", "grown"], ["--family", "grown", "--family", "painted"]):
        assert runner.invoke(app, ["evaluate", str(package.folder), "--synthetic", *options, *families]).exit_code == 0
    selections = [selection for selection, _, _ in asked]
    assert selections[0] == SyntheticSelection(tuple(Family), 3, 4, (), 1_000_007)
    assert [each.families for each in selections[1:]] == [(Family.GROWN,), (Family.PAINTED, Family.GROWN)]
    _, run, spacing_mm = asked[0]
    assert (run.workers, run.threads, spacing_mm) == (2, 1, 2.0)
    assert run.out == Path("runs") / "tiny-evaluation"


def test_two_evaluations_do_not_share_a_folder(
    marked_study: tuple[Path, object], make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    package = make_package()
    given = ["evaluate", str(package.folder), "--synthetic", *NO_HEADS, "--study", str(marked_study[0]), str(tmp_path)]
    with open_journal(tmp_path / fingerprint(MeasureSettings(package.folder))[:12]):
        result = runner.invoke(app, given)
    assert result.exit_code == FAILED
    assert "Another evaluation writes to" in result.stderr
