"""Scores of cases by hand, and a small study in which a simple network finds the lesion."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from models.labels import ADC_ABNORMALITY, LABELS, Role
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, HeadCase
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore
from models.training.synthetic.families import Family
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from pipeline.normalise import ADC_SCALE
from pipeline.volume import Geometry, Matrix, Volume
from tests.support.annotated_study import GEOMETRIES, WrittenStudy, itk_image, moved, write_study

if importlib.util.find_spec("nibabel") is None:
    # It reads truth, and comes with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]

MOTION = {Role.ADC: moved(6.0, (9.0, -8.0, 0.0)), Role.FLAIR: moved(-2.0, (1.0, 2.0, 0.0))}
_MARKED = 3200.0
"""10^-6 mm2/s, above every value outside the lesion of a MarkedHead."""


@dataclass(frozen=True)
class MarkedHead:
    """A head whose ADC map shows the truth of the ADC label."""

    head: SyntheticHead
    seed: int = 1

    def acquire(self, role: Role, geometry: Geometry, motion: Matrix | None, noise_seed: int) -> Volume:
        volume = self.head.acquire(role, geometry, motion, noise_seed)
        if role is not Role.ADC:
            return volume
        lesion = self.truth(geometry, motion)[LABELS.index(ADC_ABNORMALITY)]
        return replace(volume, pixels=np.where(lesion, np.float32(_MARKED), np.minimum(volume.pixels, 1500)))

    def truth(self, geometry: Geometry, motion: Matrix | None = None) -> np.ndarray:
        return self.head.truth(geometry, motion)


class FindsMarks(nn.Module):
    """Find all labels where ADC is marked."""

    def forward(self, channels: Tensor) -> Tensor:
        """Return logits (1, labels, ...) of (1, channels, ...), ADC being the first channel."""
        return ((channels[:, :1] * ADC_SCALE - 2200) / 100).expand(-1, len(LABELS), -1, -1, -1)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenStudy]:
    """Write a study `dicom/` with its truth beside it, the axes of the masks turned as converters turn them."""
    folder = tmp_path_factory.mktemp("real") / "a-study"
    head = MarkedHead(synthesise(1_000_000, Variant.UNIFOCAL, 3.0))
    study = write_study(folder / "dicom", head, MOTION)
    for role, masks in study.truth.items():
        bits = np.tensordot(1 << np.arange(len(LABELS)), masks, 1).astype(np.uint8)
        turned = sitk.DICOMOrient(itk_image(bits, GEOMETRIES[role]), "RAS")
        sitk.WriteImage(turned, str(folder / f"truth_{role.lower()}.nii.gz"))
    return folder, study


@pytest.fixture
def finds_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make FindsMarks the network of every package that is measured in this process."""
    monkeypatch.setattr("models.training.evaluation.measure_case.load_network", lambda _: FindsMarks())


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore the number of threads, which measuring sets for its process, here the one of the tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def scored() -> Callable[..., CaseScore]:
    """Make a case whose labels have these values of Dice; None for a label that the truth lacks."""

    def make(case: EvaluationCase, *dice: float | None, found_ml: float = 9.5) -> CaseScore:
        values = dice if len(dice) == len(LABELS) else dice * len(LABELS)
        scores = []
        for label, value in zip(LABELS, values, strict=True):
            present = value is not None
            lesions = LesionScore(2, 1, 1, 1) if present else LesionScore(0, 0, int(found_ml > 0), 0)
            hd95 = 4.0 if value else NOT_FOUND_MM
            scores.append(LabelScore(label.name, value or 0.0, hd95, 10.0 * present, found_ml, lesions))
        return CaseScore(case, tuple(scores), foci=1)

    return make


@pytest.fixture
def head() -> Callable[..., HeadCase]:
    """Make a head, by default of the painted family."""

    def make(number: int, variant: Variant = Variant.UNIFOCAL, family: Family = Family.PAINTED) -> HeadCase:
        return HeadCase(family, 1_000_000 + number, variant)

    return make
