"""The loss of training: Dice and binary cross-entropy, one sigmoid for each label."""

import torch
from torch import Tensor
from torch.nn import functional

from models.labels import ENHANCING_TUMOUR
from models.training.train.settings import TrainSettings

_AXES = (0, 2, 3, 4)
"""All axes but that of the labels."""


def training_loss(
    logits: Tensor, truth: Tensor, labels: tuple[str, ...], settings: TrainSettings
) -> tuple[Tensor, Tensor]:
    """Return Dice loss plus binary cross-entropy, and the soft Dice of each label.

    Wan et al. 2024 combine the two. `logits` and `truth` are (batch, labels, slices, rows, columns). Overlap is summed
    over the whole batch, so that a crop without lesion does not count as a failure. The smoothing of `settings`, in
    voxels, is added above and below, so that nothing found where nothing is counts as 1.
    """
    present = truth.sum(_AXES) > 0
    smoothing = torch.where(present, settings.dice_smoothing, settings.dice_smoothing_absent)
    probability, power = logits.sigmoid(), settings.dice_power
    overlap = 2 * (probability * truth).sum(_AXES) + smoothing
    dice = overlap / ((probability**power).sum(_AXES) + (truth**power).sum(_AXES) + smoothing)
    weights = dice.new_tensor(
        [settings.enhancing_weight if label == ENHANCING_TUMOUR.name else 1.0 for label in labels]
    )
    entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    return ((1 - dice) * weights).sum() / weights.sum() + entropy, dice.detach()
