"""A small study whose ADC map shows the lesion, its truth beside it, and a network that finds it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from torch import Tensor, nn

from models.labels import ADC_ABNORMALITY, PAPER_LABELS, Role
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from pipeline.normalise import ADC_SCALE
from pipeline.volume import Geometry, Matrix, Volume
from tests.support.annotated_study import GEOMETRIES, WrittenStudy, itk_image, moved, write_study

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
        lesion = self.truth(geometry, motion)[PAPER_LABELS.index(ADC_ABNORMALITY)]
        return replace(volume, pixels=np.where(lesion, np.float32(_MARKED), np.minimum(volume.pixels, 1500)))

    def truth(self, geometry: Geometry, motion: Matrix | None = None) -> np.ndarray:
        return self.head.truth(geometry, motion)


class FindsMarks(nn.Module):
    """Find all labels where ADC is marked."""

    def forward(self, channels: Tensor) -> Tensor:
        """Return logits (1, labels, ...) of (1, channels, ...), ADC being the first channel."""
        return ((channels[:, :1] * ADC_SCALE - 2200) / 100).expand(-1, len(PAPER_LABELS), -1, -1, -1)


@pytest.fixture(scope="session")
def marked_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenStudy]:
    """Write a study `dicom/` with its truth beside it, the axes of the masks turned as converters turn them."""
    folder = tmp_path_factory.mktemp("real") / "a-study"
    head = MarkedHead(synthesise(1_000_000, Variant.UNIFOCAL, 3.0))
    study = write_study(folder / "dicom", head, MOTION)
    for role, masks in study.truth.items():
        bits = np.tensordot(1 << np.arange(len(PAPER_LABELS)), masks, 1).astype(np.uint8)
        turned = sitk.DICOMOrient(itk_image(bits, GEOMETRIES[role]), "RAS")
        sitk.WriteImage(turned, str(folder / f"truth_{role.lower()}.nii.gz"))
    return folder, study


@pytest.fixture
def finds_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make FindsMarks the network of every package that is measured in this process."""
    monkeypatch.setattr("models.training.evaluation.measure_case.load_network", lambda _: FindsMarks())
