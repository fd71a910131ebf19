"""Annotated DICOM studies to a data set, through the node's own choose, read and align.

Channels are kept as they come out of `align`; `Case.normalised` does the rest of the node's way, so that a network
learns on the very numbers that it will see.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.labels import LABELS, Label, Role
from models.network import NetworkSettings
from models.training.dataset.annotation import Annotation, LabelNames, decide
from models.training.dataset.file_annotations import Values, read_file
from models.training.dataset.manifest import Annotator, DatasetBroken
from models.training.dataset.match_annotations import AnnotatedStudy, annotated_studies
from models.training.dataset.resample_annotations import on_grid, on_series, padded
from models.training.dataset.seg_annotations import read_seg
from models.training.dataset.writer import CaseRefused, DatasetWriter, NewCase, SkippedStudy
from pipeline.align import AlignSettings, align
from pipeline.choose import NotEligible, Selected, choose
from pipeline.errors import SeriesUnreadable
from pipeline.header import NotDicom, read_header
from pipeline.read import read_volume, stack_of
from pipeline.rules import Rules
from pipeline.study import Scan, Series, Study
from pipeline.volume import IDENTITY, Geometry, Matrix

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)
_PATIENT_ID = 0x00100020


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """How studies become cases."""

    rules: Rules
    channels: tuple[Role, ...] = CHANNELS
    labels: tuple[str, ...] = tuple(label.name for label in LABELS)
    spacing_mm: float = 1.0
    """Edge of the voxels (Wan et al. 2024: 1 mm). The model that is trained gets the same."""
    names: LabelNames = field(default_factory=LabelNames)
    values: Values = Values.NUMBERS
    accept_own: bool = False
    """Whether the node's own segmentation is truth where no person drew; training on it teaches nothing new."""
    missing_is_empty: bool = False
    """Whether a label that no annotation mentions is taken for empty."""
    off_grid: bool = False
    """Whether a file that stands on no series' voxels is taken in the coordinates of the label's own series."""
    derive_adc: bool = True
    align: AlignSettings = field(default_factory=AlignSettings)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if Role.T1CE not in self.channels:
            raise ValueError("T1CE must be among the channels: all others are aligned onto it")
        for names in (self.channels, self.labels):
            if len(set(names)) != len(names) or not names:
                raise ValueError("channels and labels must be named once each")
        known = {label.name for label in LABELS}
        if unknown := set(self.labels) - known:
            raise ValueError(f"there is no label {sorted(unknown)[0]}; there are {', '.join(sorted(known))}")
        if not 0.2 <= self.spacing_mm <= 5:
            raise ValueError("the spacing must lie between 0.2 and 5 mm")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The series that a study must have: the channels, and those on which the labels are defined."""
        defined_on = [label.defined_on for label in LABELS if label.name in self.labels]
        return tuple(dict.fromkeys([*self.channels, *defined_on]))


@dataclass(frozen=True, slots=True)
class _Drawable:
    """A series on which something may be drawn."""

    role: Role | None
    """None for a series that is no channel."""
    geometry: Geometry
    grid_to_series: Matrix


def convert_dicom(
    folder: Path, found: Scan, writer: DatasetWriter, settings: DicomSettings, report: Callable[[int, int], None]
) -> tuple[SkippedStudy, ...]:
    """Write every annotated study; what is left out comes back, a sentence each, studies by their UID.

    `report` is told how many of how many are done. Raises DatasetBroken where nothing can be written.
    """
    studies, skipped = annotated_studies(folder, found)
    if not studies:
        raise DatasetBroken(f"{folder} holds no MR study. Give the folder that holds images and annotations.")
    problems = list(skipped)
    for number, annotated in enumerate(studies):
        report(number, len(studies))
        try:
            writer.add(_case(annotated, settings))
        except (CaseRefused, SeriesUnreadable) as exc:
            problems.append(SkippedStudy(f"Study {annotated.study.study_instance_uid}", str(exc)))
    return tuple(problems)


def _case(annotated: AnnotatedStudy, settings: DicomSettings) -> NewCase:
    study = annotated.study
    annotations = _annotations(annotated, settings)
    selected = choose(study, settings.roles, settings.rules, settings.derive_adc)
    if isinstance(selected, NotEligible):
        raise CaseRefused(f"It has {selected.reason}. Leave it out, or ask for other channels.")
    truth = _truth(annotations, selected, settings)
    volumes = {role: read_volume(selected.series(role), role) for role in settings.roles}
    aligned = align(
        volumes, settings.roles, settings.spacing_mm, NetworkSettings().stride, settings.device, settings.align
    )
    matrices = {alignment.role: alignment.matrix for alignment in aligned.alignments}
    chosen = {
        choice.series.series_instance_uid: _Drawable(
            choice.role, volumes[choice.role].geometry, matrices.get(choice.role, IDENTITY)
        )
        for choice in selected.choices
    }
    masks: dict[str, NDArray[np.bool_]] = {}
    for label in (each for each in LABELS if each.name in settings.labels):
        annotation = truth[label.name]
        if annotation is None:
            masks[label.name] = np.zeros(aligned.grid.shape, bool)
        else:
            masks[label.name] = _on_grid(annotation, label, study, chosen, aligned.grid, settings)
    raw = aligned.channels.cpu().numpy()
    return NewCase(
        patient=_patient(study),
        study=study.study_instance_uid,
        grid=aligned.grid,
        channels={role: raw[aligned.roles.index(role)] for role in settings.channels},
        masks=masks,
        annotators={label: Annotator.NOBODY if one is None else one.annotator for label, one in truth.items()},
    )


def _annotations(annotated: AnnotatedStudy, settings: DicomSettings) -> tuple[Annotation, ...]:
    found: list[Annotation] = []
    for path in annotated.segs:
        found += read_seg(path, settings.names)
    for path in annotated.files:
        found += read_file(path, settings.names, settings.values) or ()
    if not found:
        number = len(annotated.segs) + len(annotated.files)
        raise CaseRefused(
            "Nothing is drawn on it: there is no SEG and no label map with it."
            if not number
            else f"None of {number} SEG or label maps holds a label that is known. Say what segments mean with --map."
        )
    if all(each.annotator is Annotator.NODE for each in found) and not settings.accept_own:
        raise CaseRefused(
            "It has the node's own segmentation alone, which no person changed. Correct it, or say --accept-own."
        )
    return tuple(found)


def _truth(
    annotations: tuple[Annotation, ...], selected: Selected, settings: DicomSettings
) -> Mapping[str, Annotation | None]:
    """For each label the annotation that counts; None where none mentions it and that is allowed."""
    truth: dict[str, Annotation | None] = {}
    for label in (each for each in LABELS if each.name in settings.labels):
        candidates = tuple(each for each in annotations if each.label == label.name)
        if not candidates and not settings.missing_is_empty:
            raise CaseRefused(
                f"No annotation of it mentions {label.name}. Draw it, say what segments mean with --map, or say "
                "--missing-is-empty."
            )
        defined_on = selected.series(label.defined_on).series_instance_uid
        truth[label.name] = decide(candidates, defined_on) if candidates else None
    return truth


def _on_grid(
    annotation: Annotation,
    label: Label,
    study: Study,
    chosen: Mapping[str, _Drawable],
    grid: Geometry,
    settings: DicomSettings,
) -> NDArray[np.bool_]:
    for drawable in _candidates(annotation, label, study, chosen):
        mask = on_series(annotation.parts, drawable.geometry)
        if mask is not None:
            return on_grid(mask, drawable.geometry, grid, drawable.grid_to_series)
    if settings.off_grid and not annotation.series_instance_uid and len(annotation.parts) == 1:
        role = annotation.hint or label.defined_on
        ((voxels, geometry),) = annotation.parts
        matrix = next((each.grid_to_series for each in chosen.values() if each.role is role), IDENTITY)
        return on_grid(*padded(voxels, geometry), grid, matrix)
    raise CaseRefused(
        f"The {label.name} in {annotation.where} does not stand on the voxels of a series of this study. Is it another "
        "study's? A label map that was resampled is taken with --off-grid."
    )


def _candidates(annotation: Annotation, label: Label, study: Study, chosen: Mapping[str, _Drawable]) -> list[_Drawable]:
    """The series that it may be drawn on: the one that it names; else the hinted, the label's own, the others."""
    uid = annotation.series_instance_uid
    if uid in chosen:
        return [chosen[uid]]
    order = [annotation.hint, label.defined_on, Role.T1CE]
    taken = sorted(chosen.values(), key=lambda each: order.index(each.role) if each.role in order else len(order))
    others = [series for series in study.series if series.series_instance_uid not in chosen]
    if uid and any(series.series_instance_uid == uid for series in others):
        named = _other(next(series for series in others if series.series_instance_uid == uid), chosen)
        return [named] if named else []
    return [*taken, *(other for series in others if (other := _other(series, chosen)) is not None)]


def _other(series: Series, chosen: Mapping[str, _Drawable]) -> _Drawable | None:
    """A series that is no channel: its place in the scanner's coordinates, where these are T1CE's too."""
    t1ce = next(each.geometry for each in chosen.values() if each.role is Role.T1CE)
    try:
        geometry = stack_of(series, Role.T1).geometry
    except SeriesUnreadable:
        return None
    same = geometry.frame_of_reference_uid == t1ce.frame_of_reference_uid != ""
    return _Drawable(None, geometry, IDENTITY) if same else None


def _patient(study: Study) -> str:
    """Patient ID, whoever issued it; a study without one is a patient of its own.

    Old studies often lack the issuer that later ones have. Of two hospitals' patients under one ID both go into one
    split, which is safe; one patient under two names would be trained on and tested.
    """
    path = next(instance.path for series in study.series for instance in series.instances if series.modality == "MR")
    try:
        identity = read_header(path, (_PATIENT_ID,)).text(_PATIENT_ID)
    except NotDicom as exc:
        raise CaseRefused("One of its images cannot be read again. Begin anew.") from exc
    return f"dicom {identity}" if identity else f"study {study.study_instance_uid}"
