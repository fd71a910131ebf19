"""Synthetic heads, made while training runs, as a source for training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, PAPER_LABELS, Role
from models.network import NetworkSettings
from models.package import ModelPackage, Refinement
from models.training.evaluation.segment_head import head_probabilities
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.families import LEARNED_FROM
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.samples import HeadSamples, SampleSettings
from models.training.synthetic.tumour import Variant
from models.training.train.batches import Batch, EpochLoader, ProcessRank
from models.training.train.channel_dropout import as_network_input, keep_channels
from models.training.train.measured_subsets import smaller_subsets
from models.training.train.prepared_cases import Prepared, View
from models.training.train.sample_workers import worker_options
from models.training.train.settings import TrainSettings
from models.training.train.thresholds import Masks, SegmentedCase
from pipeline.restore import restore
from pipeline.volume import Geometry

TRAINED_ON = "synthetic heads only"
FIRST_TUNING_SEED = 3_000_000
"""Above the seeds of training and away from those of evaluation."""
REFINEMENTS = {
    ENHANCING_TUMOUR.name: Refinement((Role.T1CE,), 1.5),
    ADC_ABNORMALITY.name: Refinement((Role.ADC, Role.FLAIR), 1.5),
    FLAIR_HYPERINTENSITY.name: Refinement((Role.ADC, Role.FLAIR), 1.5),
}
"""How a scan's own brightness corrects each label; chosen on heads of the learned families (docs/train.md)."""
HEAD_LABELS = tuple(label.name for label in PAPER_LABELS)
"""The labels of a head, in the order of its truth."""
_TUNING_VARIANTS = (Variant.UNIFOCAL, Variant.MULTIFOCAL, Variant.NON_ENHANCING, Variant.RESECTED, Variant.SMALL)
_SEEDS_APART = 10_007
"""Distance between the seeds of several training processes."""


def sample_settings(settings: TrainSettings, network: NetworkSettings, spacing_mm: float | None) -> SampleSettings:
    """Return how heads are cut for a network."""
    default = SampleSettings()
    return SampleSettings(
        spacing_mm=spacing_mm or default.spacing_mm,
        patch=settings.patch or default.patch,
        batch=settings.batch,
        whole=default.whole if settings.patch else 1.0,
        stride=network.stride,
    )


def head_seed(settings: TrainSettings, rank: ProcessRank, steps_before: int) -> int:
    """Return a seed of heads that no other process and no run of fewer steps used."""
    return settings.seed + steps_before + _SEEDS_APART * rank.number


@dataclass(frozen=True, slots=True)
class SyntheticHeads:
    """An endless source of heads; see `sources.CaseSource`. Thresholds are chosen on other heads after training."""

    endless: ClassVar[bool] = True
    samples: SampleSettings
    settings: TrainSettings
    presence: bool = False
    """Whether the network takes presence planes."""

    @property
    def view(self) -> View:
        """Return the channels and labels of heads, and the grid of the samples."""
        return View(CHANNELS, HEAD_LABELS, self.samples.spacing_mm, self.presence)

    @property
    def validation_cases(self) -> int:
        """Return 0: no epoch is chosen; `glionode evaluate --synthetic` measures the last one."""
        return 0

    @property
    def identity(self) -> str:
        """Return the same words for all runs: a run may be resumed with another seed."""
        return TRAINED_ON

    def steps_per_epoch(self, processes: int) -> int:
        """Return the setting of this name: an endless source has no natural epoch."""
        return self.settings.steps_per_epoch

    def batches(self, rank: ProcessRank, stride: int, steps_before: int) -> EpochLoader:
        """Return the heads of one process, from seeds that no process and no earlier run of this training used."""
        seed = head_seed(self.settings, rank, steps_before)
        steps = self.settings.steps_per_epoch
        return EpochLoader(steps, HeadBatches(HeadSamples(seed, self.samples), steps, self.settings, self.view, seed))

    def validation_case(self, number: int) -> Prepared:
        """Raise IndexError: there are no validation cases."""
        raise IndexError(number)

    def tuning_cases(self, package: ModelPackage, network: nn.Module, device: torch.device) -> Iterator[SegmentedCase]:
        """Make the tuning heads, scan them and segment the scans; masks are compared on the T1CE grid, restored.

        A network with presence planes sees each head also with fewer channels, see `channel_subsets`.
        """
        network = network.eval()
        # What it can do without is not known before this.
        measured = replace(package, optional=package.channels) if package.presence else package
        order = [HEAD_LABELS.index(label.name) for label in package.labels]
        for number in range(self.settings.tuning_heads):
            variant = _TUNING_VARIANTS[number % len(_TUNING_VARIANTS)]
            family = LEARNED_FROM[number % len(LEARNED_FROM)]
            head = synthesise(FIRST_TUNING_SEED + number, variant, family=family)
            smaller = smaller_subsets(package.channels) if package.presence else ()
            for seen in (package.channels, *smaller):
                yield _segmented_case(head, order, seen, *head_probabilities(head, measured, network, seen=seen))

    def facts(self) -> Mapping[str, str | int]:
        """Return that the cases are heads, and which heads the thresholds were chosen on."""
        tuned_on = f"{self.settings.tuning_heads} heads from seed {FIRST_TUNING_SEED}"
        return {"trained_on": TRAINED_ON, "thresholds_tuned_on": tuned_on}


def _segmented_case(
    head: SyntheticHead,
    order: list[int],
    seen: tuple[Role, ...],
    probabilities: Tensor,
    grid: Geometry,
    target: Geometry,
) -> SegmentedCase:
    """Labels of probabilities and truth are those of HEAD_LABELS; `order` has the number of each of the package's."""

    def masks_at(threshold: float) -> Masks:
        return restore(probabilities, grid, target, (threshold,) * len(HEAD_LABELS))[order]

    known = (True,) * len(order)
    return SegmentedCase(masks_at, head.truth(target)[order], known, seen, complete=len(seen) == len(CHANNELS))


class HeadBatches:
    """One stream of heads, cut into epochs (see `batches.EpochBatches`). Workers live as long as this object.

    Batches have the channels and labels of a view: those that heads do not have are absent, and not empty.
    """

    def __init__(self, samples: HeadSamples, steps: int, settings: TrainSettings, view: View, seed: int) -> None:
        """`seed` is that of the channels that are dropped."""
        self._steps = steps
        self._view = view
        self._drop_channels = settings.drop_channels
        self._seed = seed
        self._count = 0
        # The samples come in batches already.
        self._loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            samples, batch_size=None, **worker_options(settings.workers, prefetch=4)
        )
        self._stream: Iterator[tuple[Tensor, Tensor]] | None = None

    def __call__(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield new batches for the rest of an epoch from `step` on; the stream does not depend on the epoch."""
        if self._stream is None:
            self._stream = iter(self._loader)
        for channels, fractions in islice(self._stream, self._steps - step):
            self._count += 1
            generator = np.random.default_rng([self._seed, 3, self._count])
            yield self._as_view(channels, fractions, generator)

    def _as_view(self, channels: Tensor, fractions: Tensor, generator: np.random.Generator) -> Batch:
        channels, present = _select(channels, CHANNELS, self._view.channels)
        fractions, known = _select(fractions, HEAD_LABELS, self._view.labels)
        inputs = [
            as_network_input(one, keep_channels(present, self._drop_channels, generator), self._view.presence)
            for one in channels
        ]
        return Batch(torch.stack(inputs), fractions, known.expand(len(fractions), -1))


def _select(found: Tensor, names: Sequence[str], wanted: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return what is found (batch, names, ...) by the wanted names, 0 where there is none, and which are there."""
    there = [name in names for name in wanted]
    selected = found.new_zeros((len(found), len(wanted), *found.shape[2:]))
    selected[:, there] = found[:, [names.index(name) for name in wanted if name in names]]
    return selected, torch.tensor(there)
