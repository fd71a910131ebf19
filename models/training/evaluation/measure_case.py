"""Measure one case, in whichever process: make or read it, segment it, compare it with its truth, draw it.

Writes nothing. A measurement depends on what this module imports, directly or not; see `code_fingerprint`.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, read_package
from models.training.dataset.resample_annotations import on_grid
from models.training.evaluation.case_channels import absent_channels, channels_to_read, needed_channels
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import (
    DatasetCase,
    EvaluationCase,
    HeadCase,
    StudyCase,
    Unmeasured,
)
from models.training.evaluation.lesions import count_foci
from models.training.evaluation.overlays import Overlay, draw_overlay
from models.training.evaluation.phantom_study import read_phantom_study
from models.training.evaluation.predict import ModelOutput, restore_labels, segment_on_one_grid, segment_volumes
from models.training.evaluation.score import Mask, Masks, score_label
from models.training.evaluation.segment_head import REGISTERED, scan_head
from models.training.synthetic.head import synthesise
from models.weights import load_network
from pipeline.align_settings import AlignSettings
from pipeline.errors import GlionodeError
from pipeline.reference import reference_on_one_grid
from pipeline.volume import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """The scores of a case and its picture."""

    score: CaseScore
    overlay: Overlay | None
    """None for a head without a lesion, and for a case of which channels are left out."""


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """How cases are measured; called once in each process. Picklable."""

    package_folder: Path
    spacing_mm: float = 1.0
    """Edge of the voxels in which synthetic heads are made; above 1 mm the result is a trial and no measurement."""
    device: str = "cpu"
    threads: int = 1
    alignment: AlignSettings = field(default=REGISTERED)
    """Of heads and studies; the volumes of a data set stand on one grid already."""

    def __call__(self) -> Callable[[EvaluationCase], MeasuredCase | Unmeasured]:
        """Load the network and return the function that measures, which raises nothing. Raises PackageBroken."""
        torch.set_num_threads(self.threads)
        package = read_package(self.package_folder)
        network = load_network(package).to(self.device)
        return lambda case: self._attempt(case, package, network)

    def _attempt(self, case: EvaluationCase, package: ModelPackage, network: nn.Module) -> MeasuredCase | Unmeasured:
        try:
            return self._measure(case, package, network)
        except GlionodeError as exc:
            return Unmeasured(case, str(exc))
        except Exception as exc:
            logger.warning("a case was not measured", exc_info=exc)
            place = traceback.extract_tb(exc.__traceback__)[-1]
            return Unmeasured(case, f"{type(exc).__name__} in {Path(place.filename).name}, line {place.lineno}.")

    def _measure(self, case: EvaluationCase, package: ModelPackage, network: nn.Module) -> MeasuredCase:
        loaded, device = _load(case, package, self.spacing_mm), torch.device(self.device)
        given = {role: volume for role, volume in loaded.volumes.items() if role not in case.without}
        if isinstance(case, DatasetCase):
            output = segment_on_one_grid(given, package, network, device, case.on_node_grid)
        else:
            output = segment_volumes(given, package, network, self.alignment, device)
        found = []
        for label in loaded.truth:
            series = loaded.volumes[label.role].geometry
            # A series that the network is not given was not aligned either.
            found.append(restore_labels(output, package, [label.name], series, output.from_series(label.role))[0])
        scores = tuple(
            score_label(label.name, label.mask, mask, loaded.volumes[label.role].geometry.spacing_mm)
            for label, mask in zip(loaded.truth, found, strict=True)
        )
        labels = tuple(label.name for label in loaded.truth)
        if loaded.truth_on_model_grid is None:
            volumes, result = loaded.volumes, np.stack(found)
            truth = np.stack([label.mask for label in loaded.truth])
        else:
            raw = output.channels.cpu().numpy()
            volumes = {role: Volume(raw[place], output.grid) for place, role in enumerate(output.roles)}
            truth = loaded.truth_on_model_grid(output)
            result = restore_labels(output, package, labels, output.grid)
        foci = count_foci(truth, next(iter(volumes.values())).geometry.voxel_volume_mm3)
        show_errors = isinstance(case, DatasetCase)
        is_drawn = not case.is_lesion_free and not case.without
        overlay = draw_overlay(volumes, labels, truth, result, show_errors) if is_drawn else None
        absent = absent_channels(case, package)
        return MeasuredCase(CaseScore(case, scores, foci, absent), overlay)


@dataclass(frozen=True, slots=True)
class _TrueLabel:
    """The true mask of a label."""

    name: str
    role: Role
    """The series on whose slices it stands and is compared."""
    mask: Mask


@dataclass(frozen=True, slots=True)
class _LoadedCase:
    """The images and the truth of a case."""

    volumes: Mapping[Role, Volume]
    truth: tuple[_TrueLabel, ...]
    truth_on_model_grid: Callable[[ModelOutput], Masks] | None
    """Makes the truth on the model's grid, on which the case is then drawn; None where everything stands on one grid,
    on which it is drawn."""


def _load(case: EvaluationCase, package: ModelPackage, spacing_mm: float) -> _LoadedCase:
    match case:
        case HeadCase():
            head = synthesise(case.seed, case.variant, spacing_mm, case.family)
            volumes = scan_head(head, needed_channels(package))
            places = _places_of_truth(package)
            masks = head.truth(volumes[Role.T1CE].geometry)
            truth = tuple(_TrueLabel(PAPER_LABELS[place].name, Role.T1CE, masks[place]) for place in places)
            return _LoadedCase(volumes, truth, lambda output: head.truth(output.grid)[places])
        case StudyCase():
            study = read_phantom_study(case.folder, package.channels)
            truth = tuple(
                _TrueLabel(PAPER_LABELS[place].name, PAPER_LABELS[place].defined_on, study.truth[place])
                for place in _places_of_truth(package)
            )
            return _LoadedCase(study.volumes, truth, lambda output: _on_model_grid(truth, study.volumes, output))
        case DatasetCase():
            volumes = case.stored.volumes(channels_to_read(case.stored, package))
            role, masks = reference_on_one_grid(volumes), case.stored.masks(case.labels)
            truth = tuple(_TrueLabel(label, role, mask) for label, mask in zip(case.labels, masks, strict=True))
            return _LoadedCase(volumes, truth, None)
    raise TypeError(f"{type(case).__name__} cannot be measured")


def _places_of_truth(package: ModelPackage) -> list[int]:
    """Return which of PAPER_LABELS, the truth of heads and studies, the package finds."""
    names = {label.name for label in package.labels}
    return [place for place, label in enumerate(PAPER_LABELS) if label.name in names]


def _on_model_grid(truth: tuple[_TrueLabel, ...], volumes: Mapping[Role, Volume], output: ModelOutput) -> Masks:
    return np.stack(
        [on_grid(each.mask, volumes[each.role].geometry, output.grid, output.to_series(each.role)) for each in truth]
    )
