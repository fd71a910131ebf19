"""`glionode evaluate` refuses with one sentence what it cannot measure."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.node import sentence

runner = CliRunner()


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
