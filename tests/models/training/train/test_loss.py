"""The loss: Dice and cross-entropy, with the weights and smoothing of a preset, of the labels that a case has."""

import pytest
import torch

from models.labels import PAPER_LABELS
from models.training.train.loss import training_loss
from models.training.train.settings import Preset, preset_settings

NAMES = tuple(label.name for label in PAPER_LABELS)
KNOWN = torch.ones(1, 3, dtype=torch.bool)
PAPER = preset_settings(Preset.PAPER, 1)


def test_the_loss_is_small_where_the_answer_is_right_and_large_where_it_is_not() -> None:
    truth = torch.zeros(1, 3, 8, 8, 8)
    truth[:, 0, :4] = 1
    right, dice = training_loss(20 * (truth - 0.5), truth, KNOWN, NAMES, PAPER)
    assert float(right) < 1e-3
    assert dice == pytest.approx(torch.ones(3), abs=1e-3)
    wrong, dice = training_loss(20 * (0.5 - truth), truth, KNOWN, NAMES, PAPER)
    assert float(wrong) > 5
    # Nothing found of 256 voxels and 256 false ones: (0 + 100) / (256 + 256 + 100).
    assert float(dice[0]) == pytest.approx(100 / 612, rel=1e-3)


def soft_dice(logits: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Return the soft Dice of each label as training on synthetic heads computes it."""
    return training_loss(logits, truth, KNOWN, NAMES, preset_settings(Preset.SYNTHETIC, 1))[1].tolist()


def test_synthetic_training_pays_for_a_rim_of_200_voxels_that_is_missed() -> None:
    truth = torch.zeros(1, 3, 16, 16, 16)
    truth[:, 0, :2, :10, :10] = 1
    enhancing, adc, _ = soft_dice(torch.full_like(truth, -20.0), truth)
    assert enhancing < 0.3
    assert adc == pytest.approx(1)


def test_a_few_false_voxels_cost_little_where_there_is_nothing_to_find() -> None:
    truth = torch.zeros(1, 3, 16, 16, 16)
    truth[:, 1, :2, :10, :10] = 1
    logits = torch.full_like(truth, -20.0)
    logits[:, :2, 8:10, :10, :10] = 20
    enhancing, adc, _ = soft_dice(logits, truth)
    # 200 false voxels each: a tenth of a loss where the label is absent, most of it where it is present and was missed.
    assert enhancing == pytest.approx(2000 / 2200, rel=1e-3)
    assert adc == pytest.approx(80 / 480, rel=1e-3)


def test_the_papers_preset_counts_all_labels_alike() -> None:
    truth = torch.zeros(1, 3, 8, 8, 8)
    truth[:, 0, :4] = 1
    logits = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    loss, dice = training_loss(logits, truth, KNOWN, NAMES, PAPER)
    found, axes = logits.sigmoid(), (0, 2, 3, 4)
    expected = (2 * (found * truth).sum(axes) + 100) / (found.sum(axes) + truth.sum(axes) + 100)
    entropy = torch.nn.functional.binary_cross_entropy(found, truth)
    assert dice == pytest.approx(expected)
    assert float(loss) == pytest.approx(float((1 - expected).mean() + entropy))


def test_the_enhancing_label_counts_twice_wherever_it_stands() -> None:
    truth = torch.zeros(1, 3, 8, 8, 8)
    truth[:, 0] = 1
    logits = torch.full_like(truth, -20.0)
    settings = preset_settings(Preset.SYNTHETIC, 1)
    first, _ = training_loss(logits, truth, KNOWN, NAMES, settings)
    last, _ = training_loss(logits.flip(1), truth.flip(1), KNOWN, NAMES[::-1], settings)
    other, _ = training_loss(logits, truth, KNOWN, NAMES[::-1], settings)
    assert float(first) == pytest.approx(float(last))
    # Of a Dice loss near 1 for one label: 2 of 4 if it is the enhancing tumour, 1 of 4 if not.
    assert float(first - other) == pytest.approx(0.25, abs=0.05)


def test_a_label_that_no_case_of_a_batch_has_gets_no_gradient_from_it() -> None:
    """The weights of its output are not moved at all, whatever stands in its mask and whatever the others cost."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 4, 6, 6, 6, generator=generator)
    truth = (torch.rand(2, 3, 6, 6, 6, generator=generator) < 0.3).float()
    known = torch.tensor([[True, False, True], [True, False, False]])
    output = torch.nn.Conv3d(4, 3, 1)
    for preset in (Preset.PAPER, Preset.SYNTHETIC):
        output.zero_grad()
        loss, dice = training_loss(output(features), truth, known, NAMES, preset_settings(preset, 1))
        loss.backward()
        for gradient in (output.weight.grad, output.bias.grad):
            assert (gradient[1] == 0).all()
            assert gradient[[0, 2]].abs().min() > 0
        assert dice.isnan().tolist() == [False, True, False]


def test_a_label_learns_from_the_cases_that_have_it_alone() -> None:
    """Its share of the loss is that of a batch without the other cases."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 1, 6, 6, 6, generator=generator)
    truth = (torch.rand(2, 1, 6, 6, 6, generator=generator) < 0.3).float()
    known = torch.tensor([[True], [False]])
    both, dice = training_loss(logits, truth, known, NAMES[:1], PAPER)
    alone, dice_alone = training_loss(logits[:1], truth[:1], known[:1], NAMES[:1], PAPER)
    assert (float(both), float(dice)) == pytest.approx((float(alone), float(dice_alone)))


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    loss, _ = training_loss(logits, torch.ones(1, 3, 4, 4, 4), ~KNOWN, NAMES, PAPER)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()
