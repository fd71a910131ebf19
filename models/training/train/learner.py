"""The Lightning module that trains on any source of cases: loss, optimiser, mean of the weights, validation."""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from models.labels import Role
from models.network import NetworkSettings
from models.package import OutputLabel
from models.training.dataset.channel_subsets import is_reported, subset_name
from models.training.train.batches import Batch, EpochLoader, ProcessRank
from models.training.train.channel_dropout import as_network_input
from models.training.train.loss import training_loss
from models.training.train.measured_subsets import absent_from, measured_subsets, smaller_subsets
from models.training.train.monai_segresnet import monai_segresnet
from models.training.train.plan import Plan
from models.training.train.prepared_cases import Prepared
from pipeline.measure import dice
from pipeline.segment import segment

_NO_CASE = -1
"""Stands for a validation case where a process has one fewer than another."""


class TrainingStopped(Exception):
    """Training cannot go on; the message says why and what is left."""


def fresh_network(settings: NetworkSettings, channels: int, labels: int) -> nn.Module:
    """Return a network with random weights that first answers "no lesion"."""
    network = monai_segresnet(settings, channels, labels)
    # Lesions are rare: without this, the first steps teach no more than that.
    nn.init.constant_(network.get_parameter("conv_final.2.conv.bias"), -3.0)
    return network


def mean_of_known(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; 0 if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else 0.0


def half_cosine(share_done: float) -> float:
    """Fall from 1 at the start of a run to 0 at its end (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share_done)))


def _running_mean(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential mean whose memory grows from none to 300 steps, so that the first steps are soon forgotten."""
    decay = min(0.997, (1 + float(count)) / (10 + float(count)))
    return average.lerp(current, 1 - decay)


class Learner(LightningModule):  # type: ignore[misc]
    """The network with its loss, its optimiser and its validation."""

    def __init__(self, plan: Plan, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._plan = plan
        self._source, self._settings = plan.source, plan.settings
        self._labels = plan.source.view.labels
        if self._settings.channels_last:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.mean_network: AveragedModel | None = None
        if self._settings.average_weights:
            self.mean_network = AveragedModel(network, avg_fn=_running_mean).requires_grad_(False)
        self.commands: tuple[str, ...] = ()
        """The command lines of this run and of those that it resumes."""
        self.steps_of_package = 0
        """Steps before those that Lightning counts, if the run resumes a package."""
        self._steps_before = 0
        """Steps of all runs that this one resumes."""
        self._position: dict[str, int] | None = None
        """Position of the data loader in the checkpoint."""
        self._loader: EpochLoader | None = None
        self._started = time.monotonic()
        self._subsets = measured_subsets(plan.source.view.channels)
        self._dice = torch.zeros(0)
        """Sum and number of the Dice of this validation: (2, subsets and a last row for others, labels)."""
        self.validation_dice: tuple[float, ...] = ()
        """Mean over the validation cases of the latest validation, by label, NaN where no case has the label; empty
        without validation."""
        self._sums = torch.zeros(2 + 2 * len(self._labels), dtype=torch.float64)
        """Loss and steps, then for each label the soft Dice and the steps that know it, summed since the epoch began.
        Not a buffer: Lightning makes buffers equal in all processes at each step."""

    @property
    def answering_network(self) -> nn.Module:
        """The network that is validated and saved: with the mean of the weights if they are averaged."""
        return self.network if self.mean_network is None else self.mean_network.module

    @property
    def is_validated(self) -> bool:
        """Whether each epoch ends with a validation."""
        return self._source.validation_cases > 0

    @property
    def steps_done(self) -> int:
        """Steps of this run and of those that it resumes."""
        return self.steps_of_package + int(self.trainer.global_step)

    def train_dataloader(self) -> EpochLoader:
        """Return the batches of this process."""
        rank = ProcessRank(self.trainer.global_rank, self.trainer.world_size)
        steps_before = self.steps_of_package + self._steps_before
        self._loader = loader = self._source.batches(rank, self._plan.network.stride, steps_before)
        if self._position is not None:
            loader.load_state_dict(self._position)
        return loader

    def close_batches(self) -> None:
        """End the worker processes that prepare batches."""
        if self._loader is not None:
            self._loader.close()

    def val_dataloader(self) -> "DataLoader[int]":
        """Return the numbers of the validation cases of this process."""
        numbers = list(range(self._source.validation_cases))
        numbers += [_NO_CASE] * (-len(numbers) % self.trainer.world_size)
        share: Any = numbers[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(share, batch_size=None)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        channels, truth, known = batch
        if self._settings.channels_last:
            channels = channels.contiguous(memory_format=torch.channels_last_3d)
        loss, soft_dice = training_loss(self.network(channels).float(), truth, known, self._labels, self._settings)
        one = torch.ones_like(loss)[None]
        self._sums += torch.cat((loss.detach()[None], one, soft_dice.nan_to_num(0.0), known.any(0)))
        self.log("loss", loss.detach())
        for label, value in zip(self._labels, soft_dice, strict=True):
            self.log(f"soft_dice_{label}", value)
        self.log("learning_rate", self.learning_rate())
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights, and their mean before a checkpoint of this step is written."""
        super().optimizer_step(*args, **kwargs)
        if self.mean_network is not None:
            self.mean_network.update_parameters(self.network)

    def learning_rate(self) -> float:
        """Return the current learning rate."""
        return float(self.optimizers().param_groups[0]["lr"])

    def epoch_means(self) -> tuple[float, tuple[float, ...]]:
        """Return the mean loss, and the mean soft Dice by label, since the epoch began, over all processes.

        A label that no step knew has NaN. All processes have to call this, since they add their sums here. Raises
        TrainingStopped if the loss is not finite.
        """
        self._sums = self.trainer.strategy.reduce(self._sums, reduce_op="mean")
        loss = float(self._sums[0] / self._sums[1].clamp(min=1))
        soft_dice, known = self._sums[2:].chunk(2)
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"The loss is not a finite number any more, at step {self.trainer.global_step}. The last checkpoint is "
                "from before. Look at the data with `glionode dataset check`, or start with a lower learning rate."
            )
        return loss, tuple((soft_dice / known).tolist())

    def on_train_epoch_start(self) -> None:
        """Reset the sums of loss and soft Dice."""
        self._sums = torch.zeros(len(self._sums), dtype=torch.float64, device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of an epoch that is not over, the position in its batches, and the history of the run.

        Lightning saves a loader's state too, but does not restore it from a checkpoint at the end of an epoch.
        """
        assert self._loader is not None
        checkpoint["losses"] = self._sums.cpu()
        checkpoint["place"] = self._loader.state_dict()
        checkpoint["plan"] = self._plan.signature()
        checkpoint["commands"] = list(self.commands)
        checkpoint["steps_of_package"] = self.steps_of_package

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums and the position."""
        sums = checkpoint["losses"]
        if len(sums) < len(self._sums):  # older checkpoints know every label in each step, or have no soft Dice at all
            sums = functional.pad(sums, [0, 2 + len(self._labels) - len(sums)])
            sums = torch.cat((sums, sums[1].expand(len(self._labels))))
        self._sums = sums
        self._position = checkpoint["place"]
        self._steps_before = int(checkpoint["global_step"])

    def on_fit_start(self) -> None:
        """Start the clock of `minutes`."""
        self._started = time.monotonic()

    def on_train_start(self) -> None:
        """Move the sums to the device, and take the learning rate of this run; a checkpoint restores that before."""
        self._sums = self._sums.to(self.device)
        self.lr_schedulers().base_lrs = [self._settings.learning_rate]

    def probabilities(self, prepared: Prepared, present: Tensor) -> Tensor:
        """Segment a whole head as the node does, in float32: (labels, slices, rows, columns).

        Of the channels that are there the network sees those that `present` (channels) says, bool.
        """
        channels = as_network_input(prepared.channels, present, self._plan.source.view.presence)
        with torch.autocast(self.device.type, enabled=False):
            return segment(
                channels, self._network_on, self.device, self._plan.network, window=self._plan.window
            ).probabilities

    def _network_on(self, device: torch.device) -> nn.Module:
        network = self.answering_network
        return network if device.type == self.device.type else copy.deepcopy(network).to(device)

    def on_validation_epoch_start(self) -> None:
        """Reset the sums of Dice."""
        self._dice = torch.zeros((2, len(self._subsets) + 1, len(self._labels)), dtype=torch.float64)

    def validation_step(self, number: int, _: int) -> None:
        """Add the Dice of one whole head at a threshold of 0.5, by subset of channels and label.

        If training drops channels, so does validation: a second time the case has one of the smaller subsets, the next
        one for each case.
        """
        if number == _NO_CASE:
            return
        prepared, roles = self._source.validation_case(number), self._source.view.channels
        there = tuple(role for role, present in zip(roles, prepared.present, strict=True) if present)
        self._validate(prepared, there)
        smaller = smaller_subsets(there) if self._settings.drop_channels else ()
        if smaller:
            self._validate(prepared, smaller[number % len(smaller)])

    def _validate(self, prepared: Prepared, seen: tuple[Role, ...]) -> None:
        roles = self._source.view.channels
        shown, absent = torch.tensor([role in seen for role in roles]), absent_from(seen, roles)
        found = (self.probabilities(prepared, shown).cpu() >= 0.5).numpy()
        row = self._subsets.index(seen) if seen in self._subsets else -1
        for label, name in enumerate(self._labels):
            if prepared.known[label] and is_reported(OutputLabel(name, 0.5), absent):
                value = dice(found[label], prepared.masks[label].numpy())
                self._dice[:, row, label] += torch.tensor([value, 1.0], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Average over all cases of all processes, together and by subset of channels."""
        sums = self.trainer.strategy.reduce(self._dice.to(self.device), reduce_op="sum").cpu()
        total, count = sums.sum(1)
        self.validation_dice = tuple((total / count).tolist())
        for label, value in zip(self._labels, self.validation_dice, strict=True):
            self.log(f"validation_dice_{label}", value, rank_zero_only=True)
        roles = self._source.view.channels
        for subset, mean, known in zip(self._subsets, *sums[:, :-1], strict=True):
            if known.any():
                name = subset_name(absent_from(subset, roles), roles).replace(" ", "_")
                value = mean_of_known((mean / known).tolist())
                self.log(f"validation_dice_{name}", value, rank_zero_only=True)
        self.log("validation_dice", mean_of_known(self.validation_dice), rank_zero_only=True)

    def is_out_of_time(self) -> bool:
        """Return whether `minutes` are over, in any of the processes."""
        if self._settings.minutes is None:
            return False
        late = time.monotonic() - self._started > 60 * self._settings.minutes
        return bool(self.trainer.strategy.reduce_boolean_decision(late, all=False))

    def share_done(self, step: int) -> float:
        """Return how much of the run is over, 0 to 1: by steps or by the clock, whichever is further."""
        # Lightning's own estimate would set up the loader before a checkpoint can restore its position.
        by_steps = step / (self._source.steps_per_epoch(self.trainer.world_size) * self._settings.epochs)
        if not self._settings.minutes:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, (time.monotonic() - self._started) / 60 / self._settings.minutes))

    def configure_optimizers(self) -> Any:
        """Return Adam with a linear warm-up, then half a cosine."""
        settings = self._settings
        optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        warm_up = settings.warm_up_epochs * self._source.steps_per_epoch(self.trainer.world_size)

        def factor(step: int) -> float:
            fall = settings.lowest_rate + (1 - settings.lowest_rate) * half_cosine(self.share_done(step))
            return min(1.0, (step + 1) / max(1.0, warm_up)) * fall

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
