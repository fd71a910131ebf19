"""A data set mixed with synthetic heads, as one source for training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from models.network import NetworkSettings
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.samples import HeadSamples, SampleSettings
from models.training.train.batches import Batch, EpochBatches, EpochLoader, ProcessRank
from models.training.train.dataset_cases import DatasetCases
from models.training.train.settings import SettingsContradict
from models.training.train.synthetic_heads import HEAD_LABELS, HeadBatches, head_seed


@dataclass(frozen=True, slots=True)
class MixedCases(DatasetCases):
    """The cases of a data set and, in `settings.synthetic_share` of the steps, synthetic heads.

    Each case is still trained on once an epoch, and epochs are longer. Validation and thresholds use the data set
    alone. Channels and labels that heads do not have are absent from them. A resumed run goes on with other heads than
    the run would have made without the interruption.
    """

    samples: SampleSettings
    """How the heads are cut."""

    def __post_init__(self) -> None:
        DatasetCases.__post_init__(self)
        if not set(self.view.channels) & set(CHANNELS) or not set(self.view.labels) & set(HEAD_LABELS):
            raise SettingsContradict(
                f"synthetic heads have the channels {', '.join(CHANNELS)} and the labels {', '.join(HEAD_LABELS)}, and "
                "this network has none of one of them: leave synthetic_share at 0"
            )

    def steps_per_epoch(self, processes: int) -> int:
        """Return the optimiser steps of one pass over the training cases, and of the heads between them."""
        steps = DatasetCases.steps_per_epoch(self, processes)
        return steps + self._head_steps(steps)

    def batches(self, rank: ProcessRank, stride: int, steps_before: int) -> EpochLoader:
        """Return the crops and heads of one process."""
        case_steps = DatasetCases.steps_per_epoch(self, rank.processes)
        head_steps = self._head_steps(case_steps)
        seed = head_seed(self.settings, rank, steps_before)
        heads = HeadBatches(HeadSamples(seed, self.samples), head_steps, self.settings, self.view, seed)
        mixed = MixedBatches(self.crop_batches(rank, stride), case_steps, heads, head_steps, self.settings.seed)
        return EpochLoader(case_steps + head_steps, mixed)

    def facts(self) -> Mapping[str, str | int]:
        """Return the facts of the data set, and that heads were mixed in."""
        facts = dict(DatasetCases.facts(self))
        return facts | {
            "trained_on": f"{facts['trained_on']} and synthetic heads",
            "synthetic_share": str(self.settings.synthetic_share),
        }

    def _head_steps(self, case_steps: int) -> int:
        """Return how many steps of an epoch train on heads: at least one, however short the epoch."""
        share = self.settings.synthetic_share
        return max(1, round(case_steps * share / (1 - share)))


def mix(cases: DatasetCases, network: NetworkSettings) -> MixedCases:
    """Return `cases` with synthetic heads cut to the same size. Raises SettingsContradict."""
    settings = cases.settings
    samples = SampleSettings(
        spacing_mm=cases.view.spacing_mm,
        patch=settings.patch or SampleSettings().patch,
        batch=settings.batch,
        whole=0.0 if settings.patch else 1.0,
        stride=network.stride,
    )
    return MixedCases(cases.dataset, cases.train, cases.validation, cases.prepared, cases.view, settings, samples)


class MixedBatches:
    """Batches of two kinds in a random order that differs by epoch (see `batches.EpochBatches`)."""

    def __init__(self, crops: EpochBatches, crop_steps: int, heads: EpochBatches, head_steps: int, seed: int) -> None:
        self._crops = crops
        self._heads = heads
        self._is_head = np.arange(crop_steps + head_steps) >= crop_steps
        self._seed = seed

    def __call__(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `step` on."""
        is_head = np.random.default_rng([self._seed, epoch]).permutation(self._is_head)
        heads_before = int(is_head[:step].sum())
        crops, heads = self._crops(epoch, step - heads_before), self._heads(epoch, heads_before)
        for choose_head in is_head[step:]:
            yield next(heads if choose_head else crops)
