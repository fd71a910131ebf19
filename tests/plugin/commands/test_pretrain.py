"""`glionode pretrain --synthetic` passes on its options, and refuses with one sentence."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.commands.terminal import WRONG_USAGE
from tests.support.node import refusal

runner = CliRunner()


def test_pretrain_without_lightning_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightning" else real(name))
    status, sentence = refusal("pretrain", "--synthetic", tmp_path / "out")
    assert (status, "install glionode[train]" in sentence) == (WRONG_USAGE, True)
    assert not (tmp_path / "out").exists()


def test_pretrain_passes_on_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = pytest.importorskip(
        "models.training.train.experiment", reason="training needs the extra glionode[train]"
    )
    from models.training.train.checkpoints import Curve, Epoch
    from models.training.train.fit import TrainingProgress, TrainingResult

    asked = []
    epoch = Epoch(2, 0.5, (), 200, 1e-3, (0.1, 0.2, 0.3))

    def run_experiment(wanted, report, begin):  # type: ignore[no-untyped-def]
        asked.append(wanted)
        begin("training")
        report(TrainingProgress(2, 20, 100, 100, seconds=60, waiting=0.25, ended=epoch))
        package = dataclasses.replace(wanted.package, weights_sha256="f" * 64)
        return (experiment.Outcome(package, TrainingResult(Curve((epoch,)), True, 60.0, 200, 0, ()), ()),)

    monkeypatch.setattr(experiment, "run_experiment", run_experiment)
    given = ["--resume", "/of/somebody/last.ckpt", "--work=/of/somebody/work", "/of/somebody/out", "runs/out"]
    monkeypatch.setattr("sys.argv", ["/bin/glionode", "pretrain", *given])
    (tmp_path / "more.toml").write_text('seed = 3\nversion = "1.4.0"\nbatch = 2')
    options = ["--epochs", "20", "--minutes", "2.5", "--patch", "64", "--init-filters", "16"]
    options += ["--config", str(tmp_path / "more.toml")]
    result = runner.invoke(app, ["pretrain", "--synthetic", *options, "--name", "mine", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (wanted,) = asked
    assert wanted.command == "glionode pretrain --resume last.ckpt --work=work out runs/out"
    package, settings, samples = wanted.package, wanted.settings, wanted.cases
    assert (package.name, package.version, package.folder) == ("mine", "1.4.0", tmp_path / "out")
    assert (package.network.init_filters, package.network.space_to_depth, package.mirror) == (16, 2, True)
    assert (settings.preset, settings.epochs, settings.minutes, settings.seed) == ("synthetic", 20, 2.5, 3)
    assert (samples.patch, samples.batch, samples.spacing_mm) == (64, 2, 1.0)
    assert (wanted.work, wanted.resume) == (Path("runs/mine"), None)
    assert (
        "training: epoch 2 of 20, loss 0.500, soft Dice (0.10 0.20 0.30); 1.0 min, 25% of it waiting for batches"
        in result.stderr
    )
    assert "Trained 200 steps." in result.stdout
    assert "Wrote model mine 1.4.0" in result.stdout


def test_pretrain_refuses_to_go_on_from_what_is_no_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")
    options = ("--minutes", "0", "--work", tmp_path / "work", "--resume", tmp_path, tmp_path / "out")
    for words in ("holds no last.ckpt to resume", "last.ckpt is no checkpoint of a training run"):
        status, sentence = refusal("pretrain", "--synthetic", *options)
        assert (status, words in sentence) == (WRONG_USAGE, True)
        (tmp_path / "last.ckpt").write_bytes(b"")
    assert not (tmp_path / "out").exists()


def test_no_command_that_trains_has_more_than_19_options() -> None:
    for name in ("pretrain", "finetune"):
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        assert len([each for each in command.params if each.param_type_name == "option"]) <= 19, name


def test_contradictory_options_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="training needs the extra glionode[train]")
    status, sentence = refusal("pretrain", "--synthetic", "--init-filters", "9", tmp_path / "out")
    assert (status, "init_filters is 9" in sentence) == (WRONG_USAGE, True)
