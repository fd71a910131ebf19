"""A few steps of training at toy size write a package that loads; stopping and going on works."""

import csv
import dataclasses
import os
import signal
import tomllib
from pathlib import Path

import pytest
import torch

from tests.support.endless_samples import LargeSamples

pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")

from models.install import verify_package
from models.package import IntendedUse, read_package
from models.training.synthetic.augment import CHANNELS
from models.training.train.synthetic_checkpoint import CheckpointDoesNotFit
from models.training.train.synthetic_learner import PretrainSettings
from models.training.train.synthetic_pretrain import (
    CHECKPOINT,
    Progress,
    _loader,
    describe_package,
    pretrain,
)
from models.training.train.write_package import LOG_FILE
from models.weights import load_network
from tests.support.toy_pretraining import TOY


def run(
    tmp_path: Path, settings: PretrainSettings, reports: list[Progress] | None = None, resume: Path | None = None
) -> Path:
    package = describe_package(tmp_path / "package", "toy", "1.0.0", settings)
    report = (reports if reports is not None else []).append
    return pretrain(package, settings, "glionode pretrain ...", tmp_path / "work", report, resume).folder


def test_a_short_run_writes_a_package_that_verifies(tmp_path: Path) -> None:
    reports: list[Progress] = []
    folder = run(tmp_path, TOY, reports)
    package = read_package(folder)
    verify_package(package)
    assert package.intended_use is IntendedUse.DEMONSTRATION
    assert package.channels == CHANNELS
    assert package.mirror
    assert [report.step for report in reports] == [1, 2, 3]
    assert all(report.loss > 0 for report in reports)
    provenance = tomllib.loads((folder / "model.toml").read_text())["provenance"]
    assert (provenance["steps"], provenance["seed"]) == (3, TOY.seed)
    with (folder / LOG_FILE).open() as log:
        rows = list(csv.DictReader(log))
    assert [float(row["loss"]) for row in rows] == pytest.approx([report.loss for report in reports])
    logits = load_network(package)(torch.zeros(1, 3, 8, 8, 8))
    assert torch.isfinite(logits).all()


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    first, again = (read_package(run(tmp_path / name, TOY)) for name in ("a", "b"))
    assert first.weights_sha256 == again.weights_sha256
    other = read_package(run(tmp_path / "c", dataclasses.replace(TOY, seed=2)))
    assert other.weights_sha256 != first.weights_sha256


def test_a_checkpoint_is_gone_on_from_and_can_be_exported_alone(tmp_path: Path) -> None:
    first = read_package(run(tmp_path, TOY))
    checkpoint = tmp_path / "work" / CHECKPOINT
    exported = read_package(run(tmp_path, dataclasses.replace(TOY, minutes=0), resume=checkpoint))
    assert exported.weights_sha256 == first.weights_sha256
    reports: list[Progress] = []
    longer = run(tmp_path, dataclasses.replace(TOY, steps=5), reports, resume=checkpoint)
    assert [report.step for report in reports] == [4, 5]
    assert read_package(longer).weights_sha256 != first.weights_sha256
    assert tomllib.loads((longer / "model.toml").read_text())["provenance"]["steps"] == 5


BLOCKS = dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, space_to_depth=2))


def test_training_goes_on_from_a_package_of_which_no_checkpoint_is_left(tmp_path: Path) -> None:
    begun = run(tmp_path / "a", BLOCKS)
    exported = run(tmp_path / "b", dataclasses.replace(BLOCKS, minutes=0), resume=begun)
    seen = torch.randn(1, 3, 8, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_network(read_package(exported))(seen), load_network(read_package(begun))(seen))
    longer = run(tmp_path / "c", BLOCKS, resume=begun)
    again = run(tmp_path / "d", dataclasses.replace(BLOCKS, steps=5), resume=tmp_path / "c" / "work" / CHECKPOINT)
    for folder, steps in ((longer, 6), (again, 8)):
        provenance = tomllib.loads((folder / "model.toml").read_text())["provenance"]
        assert provenance["steps"] == steps
        assert provenance["command"].count("glionode pretrain") == steps // 3 + (steps == 8)
    with (longer / LOG_FILE).open() as log:
        assert [int(row["step"]) for row in csv.DictReader(log)] == [0, 1, 2, 3, 4, 5]
    assert read_package(longer).weights_sha256 != read_package(begun).weights_sha256


def test_a_package_of_another_network_or_another_training_is_not_gone_on_from(tmp_path: Path) -> None:
    begun = run(tmp_path / "a", BLOCKS)
    wider = dataclasses.replace(BLOCKS, network=dataclasses.replace(BLOCKS.network, init_filters=16))
    with pytest.raises(CheckpointDoesNotFit, match=r"is of another network, first at convInit\.conv\.weight"):
        run(tmp_path / "b", wider, resume=begun)
    toml = begun / "model.toml"
    toml.write_text(toml.read_text().replace("steps = ", "epochs = "))
    with pytest.raises(CheckpointDoesNotFit, match="does not say how many steps"):
        run(tmp_path / "c", BLOCKS, resume=begun)
    toml.write_text("format = 0")
    with pytest.raises(CheckpointDoesNotFit, match="format is 0"):
        run(tmp_path / "d", BLOCKS, resume=begun)


def test_a_run_that_goes_on_takes_the_rate_that_it_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path, TOY)
    checkpoint = tmp_path / "work" / CHECKPOINT
    slower = dataclasses.replace(TOY, steps=5, learning_rate=TOY.learning_rate / 100)
    with (run(tmp_path, slower, resume=checkpoint) / LOG_FILE).open() as log:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(log)]
    # The warm-up still rises; a hundredth of the peak stays far below what the first run came to.
    assert max(rates[3:]) < 0.1 * rates[2]


def test_an_interrupt_ends_the_run_and_still_writes_the_package(tmp_path: Path) -> None:
    reports: list[Progress] = []

    class Interrupting(list[Progress]):
        def append(self, progress: Progress) -> None:
            reports.append(progress)
            if progress.step == 2:
                signal.raise_signal(signal.SIGINT)

    folder = run(tmp_path, dataclasses.replace(TOY, steps=1000), Interrupting())
    assert reports[-1].step < 5
    verify_package(read_package(folder))


def test_the_time_limit_ends_the_run(tmp_path: Path) -> None:
    reports: list[Progress] = []
    run(tmp_path, dataclasses.replace(TOY, steps=100_000, minutes=0.02), reports)
    assert reports[-1].seconds < 60


@pytest.mark.parametrize("run", range(2))
def test_a_process_that_makes_samples_leaves_quietly_in_the_middle_of_one(
    run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.train.synthetic_pretrain.HeadSamples", LargeSamples)
    batches = iter(_loader(run, dataclasses.replace(TOY, workers=1)))
    next(batches)
    (process,) = batches._workers
    batches._shutdown_workers()
    assert process.exitcode == 0


def test_an_interrupt_of_the_whole_terminal_leaves_the_samples_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.train.synthetic_pretrain.HeadSamples", LargeSamples)
    batches = iter(_loader(1, dataclasses.replace(TOY, workers=1)))
    next(batches)
    (process,) = batches._workers
    os.kill(process.pid, signal.SIGINT)
    for _ in range(8):
        next(batches)
    batches._shutdown_workers()
    assert process.exitcode == 0
