"""A small data set whose lesions are balls, and a network that finds them where ADC is high."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.labels import PAPER_LABELS, Role
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.manifest import Annotator, DatasetSource, Split
from pipeline.normalise import ADC_SCALE
from pipeline.volume import Geometry

GRID = Geometry.axial((36, 44, 40), (4.0, 4.0, 4.0), (3.0, -5.0, 11.0), "")
Ball = tuple[tuple[float, float, float], float]
"""Centre as an index (slice, row, column), and radius in voxels."""
LESION_ADC = 1800.0


@dataclass(frozen=True)
class BallCase:
    """What a case shows, and what its annotation says."""

    seen: tuple[Ball, ...]
    """Lesions that the images show."""
    drawn: tuple[Ball, ...] | None = None
    """Lesions in the annotation; None for those in the images."""
    split: Split = Split.TEST
    drawn_by: Mapping[str, Annotator] = field(default_factory=dict)
    """Of labels that no person drew."""
    lacks: tuple[str, ...] = ()
    """Channels and labels that the case does not have."""


class FindsHighAdc(nn.Module):
    """Finds all labels where ADC is high."""

    def forward(self, channels: Tensor) -> Tensor:
        """Return logits (1, labels, ...) of (1, channels, ...), ADC being the first channel."""
        return ((channels[:, :1] * ADC_SCALE - (LESION_ADC + 800) / 2) / 100).expand(-1, len(PAPER_LABELS), -1, -1, -1)


def balls(where: tuple[Ball, ...]) -> np.ndarray:
    """Return a mask on GRID."""
    places = np.stack(np.meshgrid(*(np.arange(size) for size in GRID.shape), indexing="ij"), axis=-1)
    filled = np.zeros(GRID.shape, bool)
    for centre, radius in where:
        filled |= ((places - np.array(centre)) ** 2).sum(axis=-1) <= radius**2
    return filled


@pytest.fixture
def high_adc_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make FindsHighAdc the network of every package; on one thread, which is faster for so little."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for module in ("models.training.evaluation.measure_case", "models.training.reader_study.make"):
        monkeypatch.setattr(f"{module}.load_network", lambda _: FindsHighAdc())
    yield
    torch.set_num_threads(threads)


def write_ball_dataset(
    folder: Path, *cases: BallCase, labels: tuple[str, ...] = tuple(label.name for label in PAPER_LABELS)
) -> Dataset:
    """Write a data set and read it."""
    pytest.importorskip("nibabel", reason="data sets are written with nibabel, of the extra glionode[train]")
    from models.training.dataset.pseudonyms import Pseudonyms
    from models.training.dataset.splits import Shares
    from models.training.dataset.writer import DatasetWriter, NewCase

    names = Pseudonyms(b"k" * 32)
    writer = DatasetWriter(folder, DatasetSource.DICOM, (Role.ADC, Role.FLAIR, Role.T1CE), labels, names)
    known = {}
    for number, case in enumerate(cases):
        patient = f"patient {number}"
        known[names("patient", patient)] = case.split
        drawn = balls(case.seen if case.drawn is None else case.drawn)
        who = {label: case.drawn_by.get(label, Annotator.PERSON) for label in labels}
        channels = {role: voxels for role, voxels in _channels(case, number).items() if role not in case.lacks}
        masks = {label: drawn for label in labels if label not in case.lacks}
        writer.add(NewCase(patient, str(number), GRID, channels, masks, who))
    writer.finish(Shares(), seed=1, known=known)
    return read_dataset(folder)


def _channels(case: BallCase, seed: int) -> dict[Role, np.ndarray]:
    head, lesion = balls((((18, 22, 20), 17.0),)), balls(case.seen)
    noise = np.random.default_rng(seed).normal(0, 1, GRID.shape)
    levels = {Role.ADC: (800.0, LESION_ADC), Role.FLAIR: (100.0, 220.0), Role.T1CE: (150.0, 260.0)}
    return {
        role: ((head * inside + lesion * (bright - inside)) * (1 + 0.01 * noise)).astype(np.float32)
        for role, (inside, bright) in levels.items()
    }
