"""One step of training: loss, optimiser, running mean of the weights. Knows no files and no packages."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from models.labels import ENHANCING_TUMOUR, LABELS
from models.network import NetworkSettings, build_network
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.samples import SampleSettings


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """One run of pretraining."""

    steps: int = 4000
    """Optimiser steps at most."""
    minutes: float | None = None
    """Wall-clock limit of this call; the learning rate reaches its end by then. None: steps alone decide."""
    seed: int = 1
    learning_rate: float = 1e-3
    """Peak of Adam's learning rate, after the warm-up."""
    warm_up_steps: int = 100
    threads: int = 1
    """CPU threads of the network; the samples come from one more process."""
    precision: str = "bf16-mixed"
    """As Lightning names it; weights and their mean stay float32."""
    workers: int = 1
    """Processes that make samples; 0 makes them in the training process."""
    tune_heads: int = 0
    """Heads on which the labels' thresholds are chosen at the end; 0 leaves them at 0.5."""
    log_every: int = 10
    """Steps between lines of the training log."""
    network: NetworkSettings = field(default_factory=lambda: NetworkSettings(init_filters=8, space_to_depth=2))
    samples: SampleSettings = field(default_factory=SampleSettings)

    def __post_init__(self) -> None:
        if self.samples.stride % self.network.stride:
            raise ValueError(f"crops of multiples of {self.samples.stride} do not fit stride {self.network.stride}")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}: at least 1")


_SMOOTHING_VOXELS = 80
"""For the Dice of synthetic heads. A thin rim has 200 voxels at 1 mm: with 800 more it would count as found already."""
_SMOOTHING_OF_NOTHING = 2000
"""Where a label is not in sight. With as little as above, a fourth of the heads would teach to see no faint rim at all:
80 false voxels would cost as much as missing half of a tumour."""

_DICE_WEIGHTS = tuple(2.0 if label is ENHANCING_TUMOUR else 1.0 for label in LABELS)
"""What each label's Dice counts for on synthetic heads. A rim is a few voxels thin: unweighted, it learns last."""


def segmentation_loss(
    logits: Tensor,
    truth: Tensor,
    label_weights: tuple[float, ...] | None = None,
    power: int = 1,
    smoothing: float | Tensor = 100,
) -> tuple[Tensor, Tensor]:
    """Dice loss plus binary cross-entropy, a sigmoid per label, and the soft Dice per label.

    Wan et al. 2024 combine the two. `logits` and `truth` are (batch, labels, slices, rows, columns). Overlap is summed
    over the whole batch, so that a crop without lesion does not count as a failure; `smoothing` voxels, a number or one
    for each label, are added above and below, so that nothing found where nothing is counts as 1. `label_weights` weigh
    the mean of the labels' Dice; None counts all the same.
    """
    probability = logits.sigmoid()
    axes = (0, 2, 3, 4)
    overlap = 2 * (probability * truth).sum(axes) + smoothing
    dice = overlap / ((probability**power).sum(axes) + (truth**power).sum(axes) + smoothing)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    weights = torch.ones_like(dice) if label_weights is None else dice.new_tensor(label_weights)
    return ((1 - dice) * weights).sum() / weights.sum() + entropy, dice.detach()


def fresh_network(settings: NetworkSettings, channels: int, labels: int) -> nn.Module:
    """A network to begin with."""
    network = build_network(settings, channels, labels)
    # Lesions are rare: the first guess for a voxel is "not lesion", or the first steps only learn that.
    nn.init.constant_(network.get_parameter("conv_final.2.conv.bias"), -3.0)
    return network


def half_cosine(share_done: float) -> float:
    """From 1 at the start of a run down to 0 at its end (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share_done)))


def _running_mean(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential mean whose memory grows from none to 300 steps, so that the first steps are soon forgotten."""
    decay = min(0.997, (1 + float(count)) / (10 + float(count)))
    return average.lerp(current, 1 - decay)


class Pretraining(LightningModule):  # type: ignore[misc]
    """The network, the running mean of its weights, and one step of its training."""

    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = fresh_network(settings.network, len(CHANNELS), len(LABELS))
        self.mean_network = AveragedModel(self.network, avg_fn=_running_mean)
        self._started = time.monotonic()
        self.commands: tuple[str, ...] = ()
        """The command lines of this run and of those that it goes on from."""
        self.steps_of_package = 0
        """Steps before those that Lightning counts, where training went on from a package."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the commands, and what a package brought, with the weights."""
        checkpoint["commands"] = list(self.commands)
        checkpoint["steps_of_package"] = self.steps_of_package

    def on_fit_start(self) -> None:
        """Start the clock of `minutes`."""
        self._started = time.monotonic()

    def on_train_start(self) -> None:
        """Take the rate that this run was asked for; a checkpoint brings back that of the run before."""
        self.lr_schedulers().base_lrs = [self.settings.learning_rate]

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch."""
        channels, truth = batch
        logits = self.network(channels).float()
        in_sight = truth.sum((0, 2, 3, 4)) > 0
        smoothing = torch.where(in_sight, _SMOOTHING_VOXELS, _SMOOTHING_OF_NOTHING)
        loss, dice = segmentation_loss(logits, truth, _DICE_WEIGHTS, power=2, smoothing=smoothing)
        self.log("loss", loss.detach())
        self.log("step", float(self.steps_of_package + self.global_step))  # what Lightning's loggers count by
        for label, value in zip(LABELS, dice, strict=True):
            self.log(f"soft_dice_{label.name}", value)
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        """Fold the new weights into their mean."""
        self.mean_network.update_parameters(self.network)

    def share_done(self, step: int) -> float:
        """How much of the run is over, 0 to 1: by steps or by the clock, whichever is further."""
        by_steps = step / self.settings.steps
        if not self.settings.minutes:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, (time.monotonic() - self._started) / 60 / self.settings.minutes))

    def configure_optimizers(self) -> Any:
        """Adam; linear warm-up, then half a cosine down to a hundredth."""
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / self.settings.warm_up_steps)
            return warm * (0.01 + 0.99 * half_cosine(self.share_done(step)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
