"""Read a DICOM study whose truth is known, in the way the node reads studies.

The folder is laid out as `glionode phantom` writes it: `dicom/` with the images, and `truth_t1ce.nii.gz`,
`truth_adc.nii.gz`, `truth_flair.nii.gz` with bit masks (1 enhancing tumour, 2 ADC abnormality, 4 FLAIR hyperintensity)
on the voxels of these series. Of each file only the label that is defined on its series is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.labels import PAPER_LABELS, Label, Role
from models.training.dataset.nifti import read_nifti
from models.training.dataset.resample_annotations import on_series
from models.training.dataset.whole_numbers import whole_numbers
from models.training.dataset.writer import CaseRefused
from pipeline.choose import NotEligible, choose
from pipeline.read import read_volume
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Geometry, Volume


@dataclass(frozen=True, slots=True)
class StudyWithTruth:
    """The chosen series of a study, and each label where it is defined."""

    volumes: Mapping[Role, Volume]
    truth: tuple[NDArray[np.bool_], ...]
    """In the order of PAPER_LABELS, each (slices, rows, columns) on the series on which it is defined."""


def read_phantom_study(folder: Path, channels: tuple[Role, ...]) -> StudyWithTruth:
    """Scan, choose and read a study; `channels` are those of the model.

    Raises CaseRefused where the study or its truth cannot be used, and what reading a series raises.
    """
    studies = scan([folder / "dicom"]).studies
    if len(studies) != 1:
        raise CaseRefused(f"{folder.name}/dicom holds {len(studies)} studies. Give a folder with one study.")
    roles = tuple(dict.fromkeys([*channels, *(label.defined_on for label in PAPER_LABELS)]))
    selected = choose(studies[0], roles, load_rules())
    if isinstance(selected, NotEligible):
        raise CaseRefused(f"Study {studies[0].study_instance_uid} has {selected.reason}. Give a study with all series.")
    volumes = {role: read_volume(selected.series(role), role) for role in roles}
    return StudyWithTruth(
        volumes, tuple(_truth(folder, label, volumes[label.defined_on].geometry) for label in PAPER_LABELS)
    )


def _truth(folder: Path, label: Label, series: Geometry) -> NDArray[np.bool_]:
    path = folder / f"truth_{label.defined_on.value.lower()}.nii.gz"
    if not path.is_file():
        raise CaseRefused(f"{folder.name} has no {path.name}, the truth of {label.name}. Write the truth anew.")
    try:
        voxels, geometry = read_nifti(path)
    except OSError as exc:
        raise CaseRefused(f"{exc}. Write the truth anew.") from exc
    bits = whole_numbers(voxels, path.name)
    if bits.min() < 0 or bits.max() >= 2 ** len(PAPER_LABELS):
        raise CaseRefused(f"{path.name} holds other numbers than sums of 1, 2 and 4. Write the truth anew.")
    mask = on_series([((bits >> (label.number - 1)) & 1 > 0, geometry)], series)
    if mask is None:
        raise CaseRefused(f"{path.name} does not stand on the voxels of the {label.defined_on} series that was chosen.")
    return mask
