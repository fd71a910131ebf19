"""The training commands pass on what was asked, and refuse with one sentence."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.node import sentence

runner = CliRunner()


def test_pretrain_wants_to_know_on_what(tmp_path: Path) -> None:
    result = runner.invoke(app, ["pretrain", str(tmp_path / "out")])
    assert result.exit_code == WRONG_USAGE
    assert sentence(result.stderr) == "Say what to train on: a folder that `glionode dataset` made, or --synthetic."
    result = runner.invoke(app, ["pretrain", "--synthetic", str(tmp_path / "out"), str(tmp_path / "data")])
    assert result.exit_code == WRONG_USAGE


def test_pretrain_without_lightning_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightning" else real(name))
    result = runner.invoke(app, ["pretrain", "--synthetic", str(tmp_path / "out")])
    assert result.exit_code == WRONG_USAGE
    assert "install glionode[train]" in sentence(result.stderr)
    assert not (tmp_path / "out").exists()


def test_pretrain_passes_on_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = pytest.importorskip(
        "models.training.train.synthetic_pretrain", reason="training needs the extra glionode[train]"
    )
    asked = []

    def train(package, settings, command, work, report, resume):  # type: ignore[no-untyped-def]
        asked.append((package, settings, work, resume))
        assert command == "glionode pretrain --resume last.ckpt --work=work out runs/out"
        report(training.Progress(step=10, steps=20, loss=0.5, dice=(0.1, 0.2, 0.3), seconds=60))
        return SimpleNamespace(name=package.name, version=package.version, weights_sha256="f" * 64)

    monkeypatch.setattr(training, "pretrain", train)
    given = ["--resume", "/of/somebody/last.ckpt", "--work=/of/somebody/work", "/of/somebody/out", "runs/out"]
    monkeypatch.setattr("sys.argv", ["/bin/glionode", "pretrain", *given])
    options = ["--steps", "20", "--minutes", "2.5", "--seed", "3", "--patch", "64", "--init-filters", "16"]
    result = runner.invoke(app, ["pretrain", "--synthetic", *options, "--name", "mine", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    package, settings, work, resume = asked[0]
    assert (package.name, package.folder) == ("mine", tmp_path / "out")
    assert (settings.steps, settings.minutes, settings.seed) == (20, 2.5, 3)
    assert (settings.samples.patch, settings.network.init_filters) == (64, 16)
    assert (work, resume) == (Path("runs/mine"), None)
    assert "step 10 of 20: loss 0.500, soft Dice 0.10 0.20 0.30 (1.0 min)" in result.stderr
    assert "Wrote model mine 1.0.0" in result.stdout


def test_pretrain_refuses_to_go_on_from_what_is_no_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")
    options = ["--minutes", "0", "--tune-heads", "0", "--work", str(tmp_path / "work"), "--resume", str(tmp_path)]
    result = runner.invoke(app, ["pretrain", "--synthetic", *options, str(tmp_path / "out")])
    assert result.exit_code == WRONG_USAGE
    assert "last.ckpt is no checkpoint of training on synthetic heads" in sentence(result.stderr)
    assert not (tmp_path / "out").exists()


def test_contradictory_options_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="training needs the extra glionode[train]")
    result = runner.invoke(app, ["pretrain", "--synthetic", "--init-filters", "9", str(tmp_path / "out")])
    assert result.exit_code == WRONG_USAGE
    assert "init_filters is 9" in sentence(result.stderr)


@pytest.mark.parametrize("given", [[], ["some-data", "out", "more"]])
def test_evaluate_wants_to_know_on_what(given: list[str]) -> None:
    result = runner.invoke(app, ["evaluate", "phantom-demo", *given])
    assert result.exit_code == WRONG_USAGE
    assert sentence(result.stderr) == (
        "Say what to measure on: a folder that `glionode dataset` made and then OUT, or --synthetic."
    )


def test_evaluate_on_what_is_no_data_set_says_how_to_make_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="evaluation needs the extra glionode[train]")
    result = runner.invoke(app, ["evaluate", "phantom-demo", str(tmp_path)])
    assert result.exit_code == FAILED
    assert "Make one with `glionode dataset`" in sentence(result.stderr)
    result = runner.invoke(app, ["evaluate", "phantom-demo", str(tmp_path), "--split", "best"])
    assert result.exit_code == WRONG_USAGE
    assert "Split 'best' is unknown; choose one of train, validation, test or all." in sentence(result.stderr)


def test_evaluate_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    result = runner.invoke(app, ["evaluate", "phantom-demo", str(tmp_path)])
    assert result.exit_code == WRONG_USAGE
    assert "install glionode[train]" in sentence(result.stderr)


def test_evaluate_of_an_unknown_model_says_how_to_list(tmp_path: Path) -> None:
    result = runner.invoke(app, ["evaluate", "--synthetic", "absent"])
    assert result.exit_code == FAILED
    assert "glionode models list" in sentence(result.stderr)
    result = runner.invoke(app, ["evaluate", "--synthetic", str(tmp_path)])
    assert result.exit_code == FAILED
    assert "has no model.toml" in sentence(result.stderr)


def test_evaluate_refuses_heads_that_training_may_have_seen() -> None:
    result = runner.invoke(app, ["evaluate", "--synthetic", "--seed0", "5", "phantom-demo"])
    assert result.exit_code == WRONG_USAGE
    assert "seeds below 1000000 are for training" in sentence(result.stderr)
