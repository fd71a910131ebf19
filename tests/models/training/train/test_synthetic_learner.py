"""The loss, the schedule of the learning rate and the settings of training."""

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")

from models.labels import LABELS
from models.network import NetworkSettings
from models.training.synthetic.samples import SampleSettings
from models.training.train.synthetic_learner import Pretraining, PretrainSettings, segmentation_loss


def test_the_learning_rate_warms_up_and_ends_small() -> None:
    settings = PretrainSettings(
        steps=100,
        warm_up_steps=10,
        learning_rate=1e-2,
        network=NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)),
    )
    module = Pretraining(settings)
    configured = module.configure_optimizers()
    schedule = configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        configured["optimizer"].step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-3, rel=0.01)
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates.index(max(rates)) == pytest.approx(9, abs=1)
    assert rates[-1] < 2.5e-4


def test_the_loss_is_small_where_the_answer_is_right_and_large_where_it_is_not() -> None:
    truth = torch.zeros(1, 3, 8, 8, 8)
    truth[:, 0, :4] = 1
    right, dice = segmentation_loss(20 * (truth - 0.5), truth)
    assert float(right) < 1e-3
    assert dice == pytest.approx(torch.ones(3), abs=1e-3)
    wrong, dice = segmentation_loss(20 * (0.5 - truth), truth)
    assert float(wrong) > 5
    # Nothing found of 256 voxels and 256 false ones: (0 + 100) / (256 + 256 + 100).
    assert float(dice[0]) == pytest.approx(100 / 612, rel=1e-3)


def soft_dice(monkeypatch: pytest.MonkeyPatch, logits: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """By label, as one step of training counts it."""
    learner = Pretraining(PretrainSettings())
    logged: dict[str, float] = {}
    monkeypatch.setattr(learner, "log", lambda name, value: logged.update({name: float(value)}))
    monkeypatch.setattr(learner, "optimizers", lambda: torch.optim.Adam(learner.parameters()))
    monkeypatch.setattr(learner.network, "forward", lambda channels: logits)
    learner.training_step((torch.zeros_like(truth), truth), 0)
    return [logged[f"soft_dice_{label.name}"] for label in LABELS]


def test_synthetic_training_pays_for_a_rim_of_200_voxels_that_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.zeros(1, 3, 16, 16, 16)
    truth[:, 0, :2, :10, :10] = 1
    enhancing, adc, _ = soft_dice(monkeypatch, torch.full_like(truth, -20.0), truth)
    assert enhancing < 0.3
    assert adc == pytest.approx(1)


def test_a_few_false_voxels_cost_little_where_there_is_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.zeros(1, 3, 16, 16, 16)
    truth[:, 1, :2, :10, :10] = 1
    logits = torch.full_like(truth, -20.0)
    logits[:, :2, 8:10, :10, :10] = 20
    enhancing, adc, _ = soft_dice(monkeypatch, logits, truth)
    # 200 false voxels each: a tenth of a loss where the label is not in sight, most of it where it is and was missed.
    assert enhancing == pytest.approx(2000 / 2200, rel=1e-3)
    assert adc == pytest.approx(80 / 480, rel=1e-3)


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit stride 16"):
        PretrainSettings(samples=SampleSettings(stride=4))
    with pytest.raises(ValueError, match="steps is 0"):
        PretrainSettings(steps=0)
