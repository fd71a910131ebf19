"""The loss of training: Dice and binary cross-entropy, one sigmoid for each label."""

import torch
from torch import Tensor
from torch.nn import functional

from models.labels import ENHANCING_TUMOUR
from models.training.train.settings import TrainSettings

_AXES = (0, 2, 3, 4)
"""All axes but that of the labels."""


def training_loss(
    logits: Tensor, truth: Tensor, known: Tensor, labels: tuple[str, ...], settings: TrainSettings
) -> tuple[Tensor, Tensor]:
    """Return Dice loss plus binary cross-entropy, and the soft Dice of each label, NaN if no sample knows the label.

    Wan et al. 2024 combine the two. `logits` and `truth` are (batch, labels, slices, rows, columns), `known` is (batch,
    labels), bool: a label that a case does not have is absent from both terms, so that no gradient comes from it.
    Overlap is summed over the whole batch, so that a crop without lesion does not count as a failure. The smoothing of
    `settings`, in voxels, is added above and below, so that nothing found where nothing is counts as 1.
    """
    counts = known[:, :, None, None, None].to(logits.dtype)
    truth = truth * counts
    smoothing = torch.where(truth.sum(_AXES) > 0, settings.dice_smoothing, settings.dice_smoothing_absent)
    probability, power = logits.sigmoid() * counts, settings.dice_power
    overlap = 2 * (probability * truth).sum(_AXES) + smoothing
    dice = overlap / ((probability**power).sum(_AXES) + (truth**power).sum(_AXES) + smoothing)
    weights = dice.new_tensor(
        [settings.enhancing_weight if label == ENHANCING_TUMOUR.name else 1.0 for label in labels]
    ) * known.any(0)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, counts, reduction="sum")
    entropy = entropy / (known.sum().clamp(min=1) * logits[0, 0].numel())
    loss = ((1 - dice) * weights).sum() / weights.sum().clamp(min=1e-6) + entropy
    return loss, torch.where(known.any(0), dice.detach(), torch.nan)
