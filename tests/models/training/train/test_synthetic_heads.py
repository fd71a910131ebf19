"""A few steps on synthetic heads at toy size write a package that loads; stopping and resuming works."""

import csv
import dataclasses
import multiprocessing
import os
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.install import verify_package
from models.labels import PAPER_LABELS
from models.package import IntendedUse, ModelPackage, OutputLabel, find_package
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.families import LEARNED_FROM
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED, SampleSettings
from models.training.train import synthetic_heads
from models.training.train.checkpoints import CHECKPOINT_FILE
from models.training.train.experiment import first_network
from models.training.train.fit import TrainingProgress
from models.training.train.settings import SettingsContradict
from models.training.train.synthetic_heads import HeadBatches, SyntheticHeads, sample_settings
from models.training.train.thresholds import tune
from models.training.train.transfer import FIRST_CONVOLUTION
from models.training.train.write_package import LOG_FILE
from models.weights import load_network
from pipeline.volume import Geometry
from tests.support.endless_samples import LargeSamples
from tests.support.toy_pretraining import TOY, TOY_NETWORK, pretrain_toy


def provenance_of(package: ModelPackage) -> dict[str, Any]:
    """Return what model.toml says of the training."""
    return dict(tomllib.loads((package.folder / "model.toml").read_text())["provenance"])


def log_of(package: ModelPackage) -> list[dict[str, str]]:
    """Return the rows of the training log."""
    with (package.folder / LOG_FILE).open() as log:
        return list(csv.DictReader(log))


def steps(reports: list[TrainingProgress]) -> list[int]:
    """Return the epochs that ended; each is a step here."""
    return [report.epoch for report in reports if report.ended is not None]


def test_a_short_run_writes_a_package_that_verifies(tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    package = pretrain_toy(tmp_path, report=reports.append).package
    verify_package(package)
    assert package.intended_use is IntendedUse.DEMONSTRATION
    assert package.channels == CHANNELS
    assert package.mirror
    assert steps(reports) == [1, 2, 3]
    losses = [report.ended.loss for report in reports if report.ended is not None]
    assert all(loss > 0 for loss in losses)
    provenance = provenance_of(package)
    assert (provenance["steps"], provenance["seed"]) == (3, TOY.seed)
    assert provenance["trained_on"] == "synthetic heads only"
    rows = log_of(package)
    assert [float(row["loss"]) for row in rows] == pytest.approx(losses, abs=1e-6)
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert (
        (package.folder / "MODEL_CARD.md").read_text().startswith("# package 1.0.0: a demonstration, not for patients")
    )
    logits = load_network(package)(torch.zeros(1, 3, 8, 8, 8))
    assert torch.isfinite(logits).all()


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    first, again = (pretrain_toy(tmp_path / name).package for name in ("a", "b"))
    assert first.weights_sha256 == again.weights_sha256
    other = pretrain_toy(tmp_path / "c", dataclasses.replace(TOY, seed=2)).package
    assert other.weights_sha256 != first.weights_sha256


def test_the_package_has_the_mean_of_the_weights(tmp_path: Path) -> None:
    package = pretrain_toy(tmp_path).package
    state = torch.load(tmp_path / "work" / CHECKPOINT_FILE, weights_only=True)["state_dict"]
    first = first_network(package, TOY.seed).state_dict()
    mean = {name: state[f"mean_network.module.{name}"] for name in first}
    last = {name: state[f"network.{name}"] for name in first}
    for name, value in load_network(package).state_dict().items():
        assert torch.equal(value, mean[name].half().float())
    for other in (first, last):
        assert any(not torch.equal(mean[name], value) for name, value in other.items())


def test_a_checkpoint_is_resumed_and_can_be_written_alone(tmp_path: Path) -> None:
    first = pretrain_toy(tmp_path / "a").package
    checkpoint = tmp_path / "a" / "work" / CHECKPOINT_FILE
    written = pretrain_toy(tmp_path / "b", dataclasses.replace(TOY, minutes=0), resume=checkpoint).package
    assert written.weights_sha256 == first.weights_sha256
    assert [row["step"] for row in log_of(written)] == ["1", "2", "3"]
    reports: list[TrainingProgress] = []
    longer = pretrain_toy(tmp_path / "c", dataclasses.replace(TOY, epochs=5), report=reports.append, resume=checkpoint)
    assert steps(reports) == [4, 5]
    assert longer.package.weights_sha256 != first.weights_sha256
    assert provenance_of(longer.package)["steps"] == 5
    assert provenance_of(longer.package)["resumed_at_step"] == 3


BLOCKS = dataclasses.replace(TOY_NETWORK, space_to_depth=2)


def test_training_resumes_a_package_without_its_checkpoint(tmp_path: Path) -> None:
    begun = pretrain_toy(tmp_path / "a", network=BLOCKS).package
    written = pretrain_toy(tmp_path / "b", dataclasses.replace(TOY, minutes=0), BLOCKS, resume=begun.folder).package
    seen = torch.randn(1, 3, 8, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_network(written)(seen), load_network(begun)(seen))
    longer = pretrain_toy(tmp_path / "c", network=BLOCKS, resume=begun.folder).package
    more = dataclasses.replace(TOY, epochs=5)
    again = pretrain_toy(tmp_path / "d", more, BLOCKS, resume=tmp_path / "c" / "work" / CHECKPOINT_FILE).package
    for package, total in ((longer, 6), (again, 8)):
        provenance = provenance_of(package)
        assert provenance["steps"] == total
        assert provenance["command"].count("glionode pretrain") == total // 3 + (total == 8)
        assert [int(row["step"]) for row in log_of(package)] == list(range(1, total + 1))
    assert longer.weights_sha256 != begun.weights_sha256


def test_the_bundled_package_can_be_resumed(tmp_path: Path) -> None:
    demo = find_package("phantom-demo", None)
    settings = dataclasses.replace(TOY, minutes=0, steps_per_epoch=100)
    outcome = pretrain_toy(tmp_path, settings, demo.network, resume=demo.folder)
    seen = torch.zeros(1, 3, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_network(outcome.package)(seen), load_network(demo)(seen))
    provenance = tomllib.loads((demo.folder / "model.toml").read_text())["provenance"]
    assert outcome.trained.steps == provenance["steps"]
    assert provenance_of(outcome.package)["command"].startswith(provenance["command"])
    curve = outcome.trained.curve.epochs
    assert [row.epoch for row in curve] == list(range(1, len(curve) + 1))
    assert 0 <= provenance["steps"] - curve[-1].step < 100


def test_a_package_without_presence_planes_is_resumed_with_them(tmp_path: Path) -> None:
    """It answers as before at first, and its steps go on; what it can do without is measured or said."""
    begun = pretrain_toy(tmp_path / "a", network=BLOCKS).package
    dropping = dataclasses.replace(TOY, drop_channels=0.5)
    written = pretrain_toy(
        tmp_path / "b", dataclasses.replace(dropping, minutes=0), BLOCKS, resume=begun.folder
    ).package
    assert (written.presence, written.optional) == (True, ())
    seen = torch.randn(1, 3, 8, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for plane in (0.0, 1.0):
            planes = torch.full_like(seen, plane)
            assert torch.equal(load_network(written)(torch.cat([seen, planes], 1)), load_network(begun)(seen))
    longer = pretrain_toy(tmp_path / "c", dropping, BLOCKS, resume=begun.folder).package
    assert load_network(longer).get_parameter(FIRST_CONVOLUTION)[:, 24:].abs().max() > 0
    with pytest.raises(SettingsContradict, match="was made with presence True, and this run says False"):
        pretrain_toy(tmp_path / "d", TOY, BLOCKS, resume=tmp_path / "c" / "work" / CHECKPOINT_FILE)


def test_a_package_of_another_network_or_another_training_is_not_resumed(tmp_path: Path) -> None:
    begun = pretrain_toy(tmp_path / "a", network=BLOCKS).package.folder
    wider = dataclasses.replace(BLOCKS, init_filters=16)
    with pytest.raises(SettingsContradict, match=r"is of another network, first at convInit\.conv\.weight"):
        pretrain_toy(tmp_path / "b", network=wider, resume=begun)
    toml = begun / "model.toml"
    text = toml.read_text()
    toml.write_text(text.replace("\nsteps = ", "\nstep = "))
    with pytest.raises(SettingsContradict, match="does not say how many steps"):
        pretrain_toy(tmp_path / "c", network=BLOCKS, resume=begun)
    toml.write_text(text.replace('trained_on = "synthetic heads only"', 'trained_on = "data set (brats)"'))
    with pytest.raises(SettingsContradict, match=r"trained on data set \(brats\)"):
        pretrain_toy(tmp_path / "d", network=BLOCKS, resume=begun)
    toml.write_text("format = 0")
    with pytest.raises(SettingsContradict, match="format is 0"):
        pretrain_toy(tmp_path / "e", network=BLOCKS, resume=begun)


def test_a_resumed_run_takes_the_learning_rate_that_it_is_given(tmp_path: Path) -> None:
    pretrain_toy(tmp_path / "a")
    slower = dataclasses.replace(TOY, epochs=5, learning_rate=TOY.learning_rate / 100)
    package = pretrain_toy(tmp_path / "b", slower, resume=tmp_path / "a" / "work" / CHECKPOINT_FILE).package
    rates = [float(row["learning_rate"]) for row in log_of(package)]
    assert max(rates[3:]) < 0.1 * rates[0]


@pytest.mark.parametrize("steps_per_epoch", [1, 1000])
def test_an_interrupt_ends_the_run_and_still_writes_the_package(tmp_path: Path, steps_per_epoch: int) -> None:
    """At the end of an epoch, and in the middle of one."""
    reports: list[TrainingProgress] = []

    def interrupt(progress: TrainingProgress) -> None:
        reports.append(progress)
        if (progress.epoch - 1) * progress.steps + progress.step == 2:
            signal.raise_signal(signal.SIGINT)

    settings = dataclasses.replace(TOY, epochs=1000, steps_per_epoch=steps_per_epoch)
    outcome = pretrain_toy(tmp_path, settings, report=interrupt)
    assert outcome.trained.steps in (2, 3)
    assert not outcome.trained.complete
    verify_package(outcome.package)
    assert int(log_of(outcome.package)[-1]["step"]) == outcome.trained.steps
    # The resumed run starts with the next step.
    longer = dataclasses.replace(settings, minutes=0.0001)
    again = pretrain_toy(tmp_path / "again", longer, resume=tmp_path / "work" / CHECKPOINT_FILE)
    assert again.trained.steps == outcome.trained.steps + 1
    assert [int(row["step"]) for row in log_of(again.package)][-1] == again.trained.steps


def test_the_time_limit_ends_the_run(tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    settings = dataclasses.replace(TOY, epochs=100_000, minutes=0.02)
    outcome = pretrain_toy(tmp_path, settings, report=reports.append)
    assert reports[-1].seconds < 60
    assert outcome.trained.complete
    assert float(log_of(outcome.package)[-1]["learning_rate"]) < 0.1 * TOY.learning_rate


@pytest.fixture
def large_batches() -> Any:
    """A stream of large samples from one worker, as torch's loader makes it."""
    settings = dataclasses.replace(TOY, workers=1)
    batches = HeadBatches(LargeSamples(), 100, settings, SyntheticHeads(SampleSettings(), settings).view, seed=1)  # type: ignore[arg-type]
    stream = iter(batches._loader)
    next(stream)
    return stream


@pytest.mark.parametrize("_run", range(2))
def test_a_worker_ends_cleanly_in_the_middle_of_a_sample(_run: int, large_batches: Any) -> None:
    (process,) = large_batches._workers
    large_batches._shutdown_workers()
    assert process.exitcode == 0


def test_an_interrupt_of_the_whole_terminal_leaves_the_samples_coming(large_batches: Any) -> None:
    (process,) = large_batches._workers
    os.kill(process.pid, signal.SIGINT)
    for _ in range(8):
        next(large_batches)
    large_batches._shutdown_workers()
    assert process.exitcode == 0


@pytest.mark.parametrize("minutes", [None, 0.0001])
def test_workers_end_with_the_run(tmp_path: Path, minutes: float | None) -> None:
    """Choosing thresholds takes minutes and needs no samples."""
    pretrain_toy(tmp_path, dataclasses.replace(TOY, workers=1, minutes=minutes))
    assert multiprocessing.active_children() == []


def test_an_epoch_goes_on_in_the_stream_where_the_one_before_ended() -> None:
    samples = [(torch.full((1, 3, 1, 1, 1), float(number)), torch.zeros(1, 3, 1, 1, 1)) for number in range(100)]
    stream = HeadBatches(samples, 3, TOY, SyntheticHeads(SampleSettings(), TOY).view, seed=1)  # type: ignore[arg-type]
    epochs = [[int(batch.channels[0, 0]) for batch in stream(*at)] for at in ((0, 0), (1, 1), (2, 0))]
    assert epochs == [[0, 1, 2], [3, 4], [5, 6, 7]]


def test_dropped_channels_do_not_change_the_heads() -> None:
    """Two runs of one seed, with and without, see the same heads, and the same channels are dropped each time."""
    samples = [(torch.rand(2, 3, 2, 2, 2) + 1, torch.rand(2, 3, 2, 2, 2)) for _ in range(40)]
    dropping = dataclasses.replace(TOY, drop_channels=0.5)
    plain, one, again = (
        list(HeadBatches(samples, 40, settings, SyntheticHeads(SampleSettings(), settings, True).view, 7)(0, 0))  # type: ignore[arg-type]
        for settings in (TOY, dropping, dropping)
    )
    seen = [tuple(sample[3:, 0, 0, 0].int().tolist()) for batch in one for sample in batch.channels]
    assert 25 < sum(planes == (1, 1, 1) for planes in seen) < 55
    assert len(set(seen)) == 7, "all but none at all"
    for full, less, same in zip(plain, one, again, strict=True):
        assert torch.equal(less.channels, same.channels)
        assert torch.equal(less.truth, full.truth)
        kept = less.channels[:, 3:] > 0
        assert torch.equal(less.channels[:, :3][kept], full.channels[:, :3][kept])
        assert not less.channels[:, :3][~kept].any()


def test_processes_and_resumed_runs_make_heads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(synthetic_heads, "HeadSamples", lambda seed, _: seeds.append(seed) or [])
    heads = SyntheticHeads(SampleSettings(), TOY)
    for number, before in ((0, 0), (1, 0), (0, 300), (1, 300)):
        heads.batches(synthetic_heads.ProcessRank(number, 2), 16, before)
    assert len(set(seeds)) == 4


def test_heads_are_cut_as_the_settings_say() -> None:
    assert sample_settings(TOY, BLOCKS, None) == SampleSettings(patch=160, batch=1, whole=0.8, stride=BLOCKS.stride)
    whole = dataclasses.replace(TOY, patch=0)
    assert sample_settings(whole, BLOCKS, 2.0).whole == 1.0
    assert sample_settings(whole, BLOCKS, 2.0).spacing_mm == 2.0


GRID = Geometry.axial((8, 8, 8), (1, 1, 1), (0, 0, 0), "1.2")


class FakeHead:
    """Truth: the middle cube for the first label, nothing for the second, one half for the third."""

    def truth(self, grid: Geometry) -> np.ndarray:
        masks = np.zeros((3, *grid.shape), bool)
        masks[0, 2:6, 2:6, 2:6] = True
        masks[2, :4] = True
        return masks


def tuned_thresholds(package: ModelPackage, heads: int) -> dict[str, float]:
    """Return the threshold of each label after tuning on so many heads, in the order of the package."""
    source = SyntheticHeads(SampleSettings(), dataclasses.replace(TOY, tuning_heads=heads))
    tuned = tune(package.labels, source.tuning_cases(package, nn.Identity(), torch.device("cpu")))
    return {each.label: each.threshold for each in tuned.labels}


def test_each_label_gets_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.zeros(3, 8, 8, 8)
    probabilities[0] = 0.72  # too much everywhere ...
    probabilities[0, 2:6, 2:6, 2:6] = 0.9  # ... and more in the middle: 0.75 is right and nearest 0.5
    probabilities[2, :4] = 0.32  # low, but right: 0.3 at most
    made = []
    monkeypatch.setattr(
        synthetic_heads, "synthesise", lambda seed, variant, family: made.append((seed, family)) or FakeHead()
    )
    monkeypatch.setattr(synthetic_heads, "head_probabilities", lambda *_, **__: (probabilities, GRID, GRID))
    labels = tuple(OutputLabel(label.name, 0.55) for label in reversed(PAPER_LABELS))
    found = tuned_thresholds(dataclasses.replace(find_package("phantom-demo", None), labels=labels), 3)
    assert list(found) == [label.name for label in labels]
    assert found == {"enhancing_tumour": 0.75, "adc_abnormality": 0.55, "flair_hyperintensity": 0.3}
    assert min(seed for seed, _ in made) >= FIRST_HELD_OUT_SEED + 1_000_000
    assert {family for _, family in made} == set(LEARNED_FROM)


class HeadBelowAPlane:
    """Truth of all labels: what lies at most 7.6 mm from the first slice of the model's grid."""

    def truth(self, grid: Geometry) -> np.ndarray:
        below = np.arange(grid.shape[0]) * grid.spacing_mm[0] <= 7.6
        return np.broadcast_to(below[:, None, None], (3, *grid.shape))


def test_thresholds_fit_the_grid_on_which_masks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = Geometry.axial((8, 8, 8), (2, 2, 2), (0, 0, 0), "1.2")
    fine = Geometry.axial((29, 15, 15), (0.5, 1, 1), (0, 0, 0), "1.2")
    np.testing.assert_allclose(fine.affine[:3, 3], coarse.affine[:3, 3])  # both begin at the same point
    probabilities = torch.zeros(3, 8, 8, 8)
    probabilities[:, :4] = 0.9
    probabilities[:, 4] = 0.2  # 0.375 at 7.5 mm: from 0.25 to 0.35 is right there, 0.5 only on the coarse grid
    monkeypatch.setattr(synthetic_heads, "synthesise", lambda *_, **__: HeadBelowAPlane())
    monkeypatch.setattr(synthetic_heads, "head_probabilities", lambda *_, **__: (probabilities, coarse, fine))
    assert list(tuned_thresholds(find_package("phantom-demo", None), 1).values()) == [0.35] * 3
