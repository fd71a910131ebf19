"""Training and validation steps on the cases of a data set. Knows no files, no packages and no command line."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.network import NetworkSettings
from models.training.dataset.dataset import Case
from models.training.train.crops import Batch, CaseCrops
from models.training.train.loader import CaseLoader, Share, steps_in_epoch
from models.training.train.prepared_cases import Prepared, PreparedCases, View
from models.training.train.settings import TrainSettings
from models.training.train.synthetic_learner import half_cosine, segmentation_loss
from pipeline.segment import segment

_NOBODY = -1
"""In the place of a validation case where a process has one fewer than another."""


class TrainingStopped(Exception):
    """Training cannot go on; the text says why and what is left, in a sentence or two."""


@dataclass(frozen=True, slots=True)
class Cases:
    """What is trained and validated on."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    prepared: PreparedCases


class CaseTraining(LightningModule):  # type: ignore[misc]
    """The network with its loss, its optimiser and its validation."""

    def __init__(
        self,
        network: nn.Module,
        shape: NetworkSettings,
        window: int | None,
        cases: Cases,
        view: View,
        settings: TrainSettings,
    ) -> None:
        super().__init__()
        self.network = network
        if settings.channels_last:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._shape = shape
        self._window = window
        self._cases = cases
        self._view = view
        self._settings = settings
        self._loader: CaseLoader | None = None
        self._place: dict[str, int] | None = None
        """Where a checkpoint says that the loader stood."""
        self._dice = torch.zeros(0)
        self._validated = 0
        self.validation_dice: tuple[float, ...] = ()
        """By label, mean over the validation cases; of the latest validation."""
        self._losses = torch.zeros(2, dtype=torch.float64)
        """Sum since the epoch began, and its steps. No buffer: those are made equal in all processes at each step."""

    def train_dataloader(self) -> CaseLoader:
        """Crops for this process."""
        cases, trainer = self._cases, self.trainer
        crops = CaseCrops(cases.train, cases.prepared, self._view, self._settings, self._shape.stride)
        share = Share(trainer.global_rank, trainer.world_size)
        self._loader = CaseLoader(crops, len(cases.train), self._settings, share)
        if self._place is not None:
            self._loader.load_state_dict(self._place)
        return self._loader

    def val_dataloader(self) -> "DataLoader[int]":
        """Indices of the validation cases of this process."""
        numbers = list(range(len(self._cases.validation)))
        numbers += [_NOBODY] * (-len(numbers) % self.trainer.world_size)
        share: Any = numbers[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(share, batch_size=None)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch: soft Dice and cross-entropy, all labels alike."""
        channels, truth = batch
        if self._settings.channels_last:
            channels = channels.contiguous(memory_format=torch.channels_last_3d)
        loss, dice = segmentation_loss(self.network(channels).float(), truth)
        self._losses += torch.stack((loss.detach(), torch.ones_like(loss)))
        self.log("loss", loss.detach())
        for label, value in zip(self._view.labels, dice, strict=True):
            self.log(f"soft_dice_{label}", value)
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])
        return loss

    def mean_loss(self) -> float:
        """Since the epoch began, over all processes, which share their sums here. All of them have to call this.

        Raises TrainingStopped where it is not finite.
        """
        self._losses = self.trainer.strategy.reduce(self._losses, reduce_op="mean")
        mean = float(self._losses[0] / self._losses[1].clamp(min=1))
        if not math.isfinite(mean):
            raise TrainingStopped(
                f"The loss is not a finite number any more, at step {self.trainer.global_step}. The last checkpoint is "
                "from before. Look at the data with `glionode dataset check`, or begin with a lower learning rate."
            )
        return mean

    def on_train_epoch_start(self) -> None:
        """Begin to add up the loss."""
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the loss of an epoch that is not over, and the place in its crops.

        Lightning keeps a loader's state too, but does not bring it back from a checkpoint at the end of an epoch.
        """
        assert self._loader is not None
        checkpoint["losses"] = self._losses.cpu()
        checkpoint["place"] = self._loader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self._losses = checkpoint["losses"]
        self._place = checkpoint["place"]

    def on_train_start(self) -> None:
        """The sums go where the losses are."""
        self._losses = self._losses.to(self.device)

    def probabilities(self, prepared: Prepared) -> Tensor:
        """(labels, slices, rows, columns) of a whole head, as the node computes them, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return segment(
                prepared.channels, self._network_on, self.device, self._shape, window=self._window
            ).probabilities

    def _network_on(self, device: torch.device) -> nn.Module:
        return self.network if device.type == self.device.type else copy.deepcopy(self.network).to(device)

    def on_validation_epoch_start(self) -> None:
        """Begin to add up Dice."""
        self._dice = torch.zeros(len(self._view.labels), dtype=torch.float64)
        self._validated = 0

    def validation_step(self, number: int, _: int) -> None:
        """Dice of one case, by label, of the whole head at a threshold of 0.5."""
        if number == _NOBODY:
            return
        prepared = self._cases.prepared(self._cases.validation[number])
        found = self.probabilities(prepared).cpu() >= 0.5
        self._dice += torch.tensor([dice(*masks) for masks in zip(found, prepared.masks, strict=True)])
        self._validated += 1

    def on_validation_epoch_end(self) -> None:
        """Mean over all cases of all processes."""
        here = torch.cat((self._dice, torch.tensor([float(self._validated)], dtype=torch.float64))).to(self.device)
        sums = self.trainer.strategy.reduce(here, reduce_op="sum").cpu()
        self.validation_dice = tuple(float(value) for value in sums[:-1] / sums[-1])
        for label, value in zip(self._view.labels, self.validation_dice, strict=True):
            self.log(f"validation_dice_{label}", value, rank_zero_only=True)
        self.log("validation_dice", sum(self.validation_dice) / len(self.validation_dice), rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Adam, a linear warm-up where there is one, then half a cosine down to 0."""
        settings = self._settings
        optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        # Lightning's own estimate would set up the loader before a checkpoint can say where it stands.
        steps_an_epoch = steps_in_epoch(len(self._cases.train), settings, self.trainer.world_size)
        steps = steps_an_epoch * settings.epochs
        warm_up = settings.warm_up_epochs * steps_an_epoch

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / max(1.0, warm_up)) * half_cosine(step / steps)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def dice(found: Tensor, truth: Tensor) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty, so that nothing found where nothing is counts as right."""
    both = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / both if both else 1.0
