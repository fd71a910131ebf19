"""Measure one case, in whichever process: make or read it, segment it, compare, draw. Writes nothing."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.labels import LABELS, Role
from models.package import ModelPackage, read_package
from models.training.dataset.manifest import DatasetBroken
from models.training.dataset.resample_annotations import on_grid
from models.training.evaluation.overlays import draw_lesion
from models.training.evaluation.phantom_study import read_real_head
from models.training.evaluation.predict import OnModelGrid, on_model_grid, order_of_labels
from models.training.evaluation.score import LabelScore, score_label
from models.training.evaluation.segment_head import REGISTERED, score_masks, segment_head, thresholds_of
from models.training.evaluation.synthetic_cases import Case, Head, Study
from models.training.synthetic.head import synthesise
from models.training.synthetic.tumour import Variant
from models.weights import load_network
from pipeline.align import AlignSettings
from pipeline.errors import GlionodeError
from pipeline.restore import restore
from pipeline.volume import IDENTITY, Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """Scores of LABELS, and a picture where there is a lesion to show."""

    case: Case
    labels: tuple[LabelScore, ...]
    picture: bytes | None


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A case that could not be measured."""

    case: Case
    why: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """How cases are measured; opened once in each process. Picklable."""

    package_folder: Path
    spacing_mm: float = 1.0
    """Edge of the voxels in which synthetic heads are made; the coarser, the less they have in common with heads."""
    device: str = "cpu"
    threads: int = 1
    alignment: AlignSettings = field(default=REGISTERED)

    def __call__(self) -> Callable[[Case], MeasuredCase | Unmeasured]:
        """Load the network. Raises PackageBroken; the returned function raises nothing."""
        torch.set_num_threads(self.threads)
        package = read_package(self.package_folder)
        network = load_network(package).to(self.device)
        return lambda case: self._attempt(case, package, network)

    def _attempt(self, case: Case, package: ModelPackage, network: nn.Module) -> MeasuredCase | Unmeasured:
        try:
            return self._head(case, package, network) if isinstance(case, Head) else self._study(case, package, network)
        except (GlionodeError, DatasetBroken) as exc:
            return Unmeasured(case, str(exc))
        except Exception as exc:
            logger.warning("a case was not measured", exc_info=exc)
            place = traceback.extract_tb(exc.__traceback__)[-1]
            return Unmeasured(case, f"{type(exc).__name__} in {Path(place.filename).name}, line {place.lineno}.")

    def _head(self, case: Head, package: ModelPackage, network: nn.Module) -> MeasuredCase:
        head = synthesise(case.seed, case.variant, self.spacing_mm, case.family)
        walked = segment_head(head, package, network, self.alignment, torch.device(self.device))
        labels = score_masks(walked.truth, walked.found, walked.t1ce.spacing_mm)
        if case.variant is Variant.LESION_FREE:
            return MeasuredCase(case, labels, None)
        return MeasuredCase(case, labels, _picture(head.truth(walked.seen.grid), walked.seen, package))

    def _study(self, case: Study, package: ModelPackage, network: nn.Module) -> MeasuredCase:
        study = read_real_head(case.folder, package.channels)
        seen = on_model_grid(study.volumes, package, network, self.alignment, torch.device(self.device))
        probabilities, thresholds = seen.probabilities[order_of_labels(package)], thresholds_of(package)
        scores, on_model = [], []
        for place, (label, truth) in enumerate(zip(LABELS, study.truth, strict=True)):
            role = label.defined_on
            series = study.volumes[role].geometry
            # A label that is defined on a series which the model does not see was not aligned either.
            one, threshold = probabilities[place : place + 1], thresholds[place : place + 1]
            found = restore(one, seen.grid, series, threshold, seen.from_series(role))[0]
            scores.append(score_label(label.name, truth, found, series.spacing_mm))
            on_model.append(on_grid(truth, series, seen.grid, seen.to_series(role)))
        return MeasuredCase(case, tuple(scores), _picture(np.stack(on_model), seen, package))


def _picture(truth: NDArray[np.bool_], seen: OnModelGrid, package: ModelPackage) -> bytes:
    """The case as the network saw it, on its grid; `truth` is on it, too."""
    raw = seen.channels.cpu().numpy()
    volumes: dict[Role, Volume] = {role: Volume(raw[place], seen.grid) for place, role in enumerate(seen.roles)}
    found = restore(
        seen.probabilities[order_of_labels(package)], seen.grid, seen.grid, thresholds_of(package), IDENTITY
    )
    return draw_lesion(volumes, truth, found)
