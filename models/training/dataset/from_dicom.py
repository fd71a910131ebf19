"""Convert annotated DICOM studies to a data set with the node's own steps: choose, read and align.

Channels are stored as `align` returns them. `Case.normalised` applies the node's normalisation, so training and
inference see the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.labels import LABELS, PAPER_LABELS, Label, Role
from models.network import NetworkSettings
from models.training.dataset.annotation import Annotation, LabelNames, select_annotation
from models.training.dataset.annotation_evidence import check_brightness, check_not_lost
from models.training.dataset.file_annotations import LabelMapValues, read_file
from models.training.dataset.manifest import Annotator, DatasetBroken
from models.training.dataset.match_annotations import AnnotatedStudy, annotated_studies
from models.training.dataset.name_table import CaseSource
from models.training.dataset.required import ALL_REQUIRED, Required
from models.training.dataset.resample_annotations import on_grid, on_series, padded
from models.training.dataset.seg_annotations import read_seg
from models.training.dataset.study_patient import study_patient
from models.training.dataset.writer import CaseRefused, DatasetWriter, NewCase, SkippedStudy, check_choice
from pipeline.align import Aligned, align
from pipeline.align_settings import AlignSettings
from pipeline.choose import NotEligible, Selected, choose
from pipeline.coverage import measure_coverage, require_coverage
from pipeline.errors import GlionodeError, SeriesUnreadable
from pipeline.identity import check_one_patient, identity_remarks
from pipeline.read import find_stack, read_volume
from pipeline.repeated_uids import check_instance_uids
from pipeline.role_coverage import MarkedUnseen, coverage_remarks
from pipeline.rules import Rules
from pipeline.study import Scan, Series, Study
from pipeline.volume import IDENTITY, Geometry, Matrix

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """How to convert studies to cases."""

    rules: Rules
    channels: tuple[Role, ...] = CHANNELS
    labels: tuple[str, ...] = tuple(label.name for label in PAPER_LABELS)
    spacing_mm: float = 1.0
    """Edge of the voxels (Wan et al. 2024: 1 mm). A model trained on the data set gets the same."""
    names: LabelNames = field(default_factory=LabelNames)
    values: LabelMapValues = LabelMapValues.NUMBERS
    accept_own: bool = False
    """Whether the node's own segmentation counts as truth where no person annotated the study."""
    missing_is_empty: bool = False
    """Whether a label that no annotation mentions counts as empty."""
    off_grid: bool = False
    """Whether to use a file whose grid matches no series, in the coordinates of the label's own series."""
    required: Required = ALL_REQUIRED
    """What every case must have; it may lack other channels and labels."""
    derive_adc: bool = True
    min_coverage: float = 0.7
    """Share of the head that each series has to show, as in the node's settings."""
    align: AlignSettings = field(default_factory=AlignSettings)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_choice(self.channels, self.labels, self.spacing_mm)
        self.required.check(self.channels, self.labels)
        known = {label.name for label in LABELS}
        if unknown := set(self.labels) - known:
            raise ValueError(f"there is no label {sorted(unknown)[0]}; the labels are {', '.join(sorted(known))}")

    @property
    def roles(self) -> tuple[Role, ...]:
        """Return the series to choose: the channels, and those on which the labels are defined."""
        defined_on = [label.defined_on for label in LABELS if label.name in self.labels]
        return tuple(dict.fromkeys([*self.channels, *defined_on]))

    @property
    def optional(self) -> tuple[Role, ...]:
        """Return those of the series that a study may lack."""
        needed = self.required.lacking(self.roles, ())
        return tuple(role for role in self.roles if role not in needed)


@dataclass(frozen=True, slots=True)
class _CandidateSeries:
    """A series that may be annotated."""

    role: Role | None
    """None for a series that is not a channel."""
    geometry: Geometry
    grid_to_series: Matrix


def convert_dicom(
    folder: Path, found: Scan, writer: DatasetWriter, settings: DicomSettings, report: Callable[[int, int], None]
) -> tuple[SkippedStudy, ...]:
    """Write every annotated study and return the skipped studies and files, with reasons.

    `report` receives the number of studies done and the number of all studies. Raises DatasetBroken if there are no
    studies or the disk cannot be written.
    """
    studies, skipped = annotated_studies(folder, found)
    if not studies:
        raise DatasetBroken(f"{folder} holds no MR study. Give the folder that holds images and annotations.")
    problems = list(skipped)
    for number, annotated in enumerate(studies):
        report(number, len(studies))
        name = f"Study {annotated.study.study_instance_uid}"
        try:
            case = _make_case(annotated, settings)
        except GlionodeError as exc:  # of whatever step: one study ends no other
            problems.append(SkippedStudy(name, str(exc)))
            continue
        try:
            writer.add(case)
        except CaseRefused as exc:
            problems.append(SkippedStudy(name, str(exc)))
    return tuple(problems)


def _make_case(annotated: AnnotatedStudy, settings: DicomSettings) -> NewCase:
    study = annotated.study
    annotations = _annotations(annotated, settings)
    selected = choose(study, settings.roles, settings.rules, settings.derive_adc, settings.optional)
    if isinstance(selected, NotEligible):
        raise CaseRefused(
            f"It has {selected.reason}. Remove it, request other channels, or do not require it (--require)."
        )
    if not any(choice.role in settings.channels for choice in selected.choices):
        raise CaseRefused(f"It has {selected.why_absent}, and no other channel of the data set. Remove it.")
    series = {choice.role: choice.series for choice in selected.choices}
    check_one_patient(series)
    check_instance_uids(series)
    truth = _select_truth(annotated, annotations, selected, settings)
    volumes = {role: read_volume(each, role) for role, each in series.items()}
    aligned = align(
        volumes, settings.roles, settings.spacing_mm, NetworkSettings().stride, settings.device, settings.align
    )
    matrices = {alignment.role: alignment.matrix for alignment in aligned.alignments}
    coverage = measure_coverage(volumes, matrices)
    uids = {role: each.series_instance_uid for role, each in series.items()}
    require_coverage(coverage, uids, settings.min_coverage)
    chosen = {
        choice.series.series_instance_uid: _CandidateSeries(
            choice.role, volumes[choice.role].geometry, matrices.get(choice.role, IDENTITY)
        )
        for choice in selected.choices
    }
    masks: dict[str, NDArray[np.bool_]] = {}
    for label in (each for each in LABELS if each.name in truth):
        annotation = truth[label.name]
        if annotation is None:
            masks[label.name] = np.zeros(aligned.grid.shape, bool)
        else:
            masks[label.name] = _mask_on_grid(annotation, label, study, chosen, aligned, settings)
    raw = dict(zip(aligned.roles, aligned.channels.cpu().numpy(), strict=True))
    if Role.T1CE in raw:
        check_brightness(masks, truth, raw[Role.T1CE])
    patient = study_patient(study, series.values())
    remarks = (*identity_remarks(study, series), *coverage_remarks(coverage.roles, MarkedUnseen()))
    return NewCase(
        patient=patient.identity,
        study=study.study_instance_uid,
        grid=aligned.grid,
        channels={role: raw[role] for role in settings.channels if role in raw},
        masks=masks,
        annotators={label: Annotator.NOBODY if one is None else one.annotator for label, one in truth.items()},
        source=CaseSource(study.study_instance_uid, _folder(study), public=False),
        persons=patient.persons,
        remarks=(*patient.remarks, *(remark.text for remark in remarks)),
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
            f"It has no annotation: neither SEG nor label map{_though(annotated)}. Add one, or remove the study."
            if not number
            else f"None of its {number} SEG or label maps holds a known label. Tell what segments mean with --map."
        )
    if all(each.annotator is Annotator.NODE for each in found) and not settings.accept_own:
        raise CaseRefused(
            "It has only the node's own segmentation, which no person changed. Correct it, or give --accept-own."
        )
    return tuple(found)


def _though(annotated: AnnotatedStudy) -> str:
    """Return a clause on annotations that are not read; "" if there are none."""
    kinds = " and ".join(annotated.unread)
    return f", and its {kinds} cannot be read (convert it to SEG)" if kinds else ""


def _select_truth(
    annotated: AnnotatedStudy, annotations: tuple[Annotation, ...], selected: Selected, settings: DicomSettings
) -> Mapping[str, Annotation | None]:
    """Select the annotation of each label; None if there is none and `missing_is_empty` allows that.

    A label without annotation that is not required is left out. So is one, whatever `missing_is_empty` says, of a study
    without the series that defines it, on which nobody can have looked for it.
    """
    truth: dict[str, Annotation | None] = {}
    series = {choice.role: choice.series.series_instance_uid for choice in selected.choices}
    for label in (each for each in LABELS if each.name in settings.labels):
        candidates = tuple(each for each in annotations if each.label == label.name)
        if candidates:
            truth[label.name] = select_annotation(candidates, series.get(label.defined_on, ""))
        elif settings.missing_is_empty and not annotated.unread and label.defined_on in series:
            truth[label.name] = None
        elif settings.required.lacking([label.name], ()):
            raise CaseRefused(
                f"No annotation mentions {label.name}{_though(annotated)}. Add one, tell what segments mean with "
                "--map, give --missing-is-empty, or do not require it (--require)."
            )
    if not any(truth.values()):
        raise CaseRefused(f"No annotation mentions any of {', '.join(settings.labels)}{_though(annotated)}. Add one.")
    return truth


def _mask_on_grid(
    annotation: Annotation,
    label: Label,
    study: Study,
    chosen: Mapping[str, _CandidateSeries],
    aligned: Aligned,
    settings: DicomSettings,
) -> NDArray[np.bool_]:
    grid = aligned.grid
    for candidate in _candidate_series(annotation, label, study, chosen, aligned.reference):
        mask = on_series(annotation.parts, candidate.geometry)
        if mask is not None:
            found = on_grid(mask, candidate.geometry, grid, candidate.grid_to_series)
            drawn_mm3 = float(mask.sum()) * candidate.geometry.voxel_volume_mm3
            check_not_lost(annotation, drawn_mm3 / 1000, float(found.sum()) * grid.voxel_volume_mm3 / 1000)
            return found
    if settings.off_grid and not annotation.series_instance_uid and len(annotation.parts) == 1:
        role = annotation.role_hint or label.defined_on
        ((voxels, geometry),) = annotation.parts
        matrix = next((each.grid_to_series for each in chosen.values() if each.role is role), IDENTITY)
        return on_grid(*padded(voxels, geometry), grid, matrix)
    raise CaseRefused(
        f"The {label.name} in {annotation.where} matches the voxels of no series of this study. Move it to its study, "
        "or accept a resampled label map with --off-grid."
    )


def _candidate_series(
    annotation: Annotation, label: Label, study: Study, chosen: Mapping[str, _CandidateSeries], reference: Role
) -> list[_CandidateSeries]:
    """Return the series to try: the one that it names, else the suggested one, the label's own, then all others."""
    uid, frame = annotation.series_instance_uid, annotation.frame_of_reference_uid
    if uid in chosen:
        return [chosen[uid]]
    order = [annotation.role_hint, label.defined_on, reference]
    taken = sorted(chosen.values(), key=lambda each: order.index(each.role) if each.role in order else len(order))
    others = [series for series in study.series if series.series_instance_uid not in chosen]
    named = [series for series in others if series.series_instance_uid == uid]
    fixed = next(each.geometry for each in chosen.values() if each.role is reference)
    unaligned = [found for series in named or others if (found := _unaligned_series(series, fixed)) is not None]
    if named:
        return unaligned
    # Grids of two patients may be equal; a frame of reference is of one examination (PS3.3 C.7.4.1.1.1).
    return [each for each in (*taken, *unaligned) if not frame or each.geometry.frame_of_reference_uid in ("", frame)]


def _unaligned_series(series: Series, reference: Geometry) -> _CandidateSeries | None:
    """Return a series that is not a channel, if its frame of reference is that of the reference series; else None."""
    try:
        geometry = find_stack(series, Role.T1).geometry
    except SeriesUnreadable:
        return None
    same = geometry.frame_of_reference_uid == reference.frame_of_reference_uid != ""
    return _CandidateSeries(None, geometry, IDENTITY) if same else None


def _folder(study: Study) -> Path:
    """Return the folder that holds all images of a study, at whatever depth."""
    return Path(commonpath([instance.path.parent for series in study.series for instance in series.instances]))
