"""Check a data set for errors in files, grids, values, labels and patients. Changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.labels import ENHANCING_TUMOUR, Role, find_label
from models.training.dataset.dataset import Case, Dataset, channel_file, label_file, same_grid
from models.training.dataset.fingerprint import case_fingerprint, dataset_fingerprint, image_fingerprint
from models.training.dataset.label_numbers import FORMER_NAMES
from models.training.dataset.manifest import CASES_FOLDER, Annotator, DatasetBroken, DatasetSource, Split
from pipeline.adc_units import typical_value, unit_factor
from pipeline.normalise import head_mask
from pipeline.volume import Volume

_COARSE_EDGE = 12
"""Edge in voxels of the coarse images by which scans are compared."""
_SIMILAR = 0.999
"""Correlation of two coarse images above which they may show one scan. Two synthetic heads stay below 0.95."""
_MOST_MISSING = 0.5
"""Share of the head without a value above which a channel is useless."""
_OUTSIDE = 0.3
"""Share of a label outside of the head, or where its own channel has no value, above which it needs review."""


_ENHANCING = ("ET", ENHANCING_TUMOUR.name)
"""The label under its name and its former one."""
_DARK = 0.75
"""Share of the rest of the head's median on T1CE below which nothing enhances. Fluid has less than half of it."""


@dataclass(frozen=True, slots=True)
class DatasetFinding:
    """An observation about a case, or about the whole data set if `case_id` is empty."""

    case_id: str
    wrong: bool
    """True for an error, False for something that a person should review."""
    sentence: str


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """A case whose files are readable."""

    case: Case
    volumes: dict[Role, Volume]
    masks: NDArray[np.bool_]
    """(labels, slices, rows, columns), in the order of the case's labels."""
    fingerprint: str
    """Fingerprint of the present files."""

    @property
    def volumes_ml(self) -> tuple[float, ...]:
        """Return the volume of each label."""
        voxel_mm3 = next(iter(self.volumes.values())).geometry.voxel_volume_mm3
        return tuple(float(mask.sum()) * voxel_mm3 / 1000 for mask in self.masks)


@dataclass(frozen=True, slots=True)
class _Summary:
    """The data by which a case is compared with the others."""

    case: Case
    images: dict[Role, str]
    """Image fingerprint of each channel."""
    reference: Role
    """The role of the channel that `coarse` was made of."""
    coarse: NDArray[np.float32]


def check_dataset(
    dataset: Dataset, report: Callable[[CheckedCase, tuple[DatasetFinding, ...]], None]
) -> tuple[DatasetFinding, ...]:
    """Return all findings. `report` receives each readable case with its findings; no case stays in memory."""
    findings = list(_check_whole(dataset))
    summaries: list[_Summary] = []
    for case in dataset.cases:
        try:
            checked = _read(case)
        except DatasetBroken as exc:
            findings.append(DatasetFinding(case.case_id, True, str(exc)))
            continue
        summary = _summarise(checked)
        own = (*_check_images(checked, summary), *_check_case(checked, dataset))
        findings += own
        summaries.append(summary)
        report(checked, own)
    findings += _compare_cases(summaries)
    whole = dataset_fingerprint(
        dataset.manifest.source, dataset.channels, dataset.labels, dataset.spacing_mm, dataset.manifest.entries()
    )
    if whole != dataset.fingerprint:
        findings.append(
            DatasetFinding("", True, "dataset.json was changed by hand: its fingerprint does not match. Make it again.")
        )
    return tuple(findings)


def _read(case: Case) -> CheckedCase:
    volumes = dict(case.volumes(case.channels))
    masks, label_grid = case.masks_with_geometry(case.labels)
    geometry = volumes[case.reference].geometry
    expected = {*map(channel_file, case.channels), *map(label_file, case.labels)}
    if unlisted := sorted(path.name for path in case.folder.glob("*.nii.gz") if path.name not in expected):
        raise DatasetBroken(f"Case {case.case_id}: {unlisted[0]} is not listed in dataset.json. Make it again.")
    if not same_grid(label_grid, geometry):
        raise DatasetBroken(f"Case {case.case_id}: its labels are on another grid than its channels. Make it again.")
    parts: list[tuple[str, NDArray[Any]]] = [(channel_file(role), volume.pixels) for role, volume in volumes.items()]
    parts += [(label_file(label), mask) for label, mask in zip(case.labels, masks, strict=True)]
    return CheckedCase(case, volumes, masks, case_fingerprint(parts, geometry))


def _check_whole(dataset: Dataset) -> Iterable[DatasetFinding]:
    counts = Counter(case.split for case in dataset.cases)
    for split in (Split.TRAIN, Split.VALIDATION):
        if not counts[split]:
            yield DatasetFinding("", False, f"No case is in the {split} split.")
    splits: dict[str, set[Split]] = {}
    for case in dataset.cases:
        splits.setdefault(case.patient, set()).add(case.split)
    for patient, found in splits.items():
        if len(found) > 1:
            names = " and ".join(sorted(found))
            yield DatasetFinding("", True, f"Patient {patient} is in {names}. Make the data set again.")
    if old := [f"{name} for {label}" for name, label in FORMER_NAMES.items() if name in dataset.labels]:
        yield DatasetFinding(
            "",
            False,
            f"Its labels have the names of before format 3 ({', '.join(old)}). Make it again before it is trained "
            "together with other data sets: labels are matched by name.",
        )
    known = {case.case_id for case in dataset.cases}
    strays = sorted(path.name for path in (dataset.folder / CASES_FOLDER).iterdir() if path.name not in known)
    for name in strays:
        yield DatasetFinding("", False, f"The folder {CASES_FOLDER}/{name} is not listed in dataset.json. Remove it.")


def _check_images(checked: CheckedCase, summary: _Summary) -> Iterable[DatasetFinding]:
    stated = dict(checked.case.entry.images)
    if stated and stated != summary.images and checked.fingerprint == checked.case.entry.fingerprint:
        sentence = "The fingerprints of its images in dataset.json are not those of its channels. Make it again."
        yield DatasetFinding(checked.case.case_id, True, sentence)


def _check_case(checked: CheckedCase, dataset: Dataset) -> Iterable[DatasetFinding]:
    def wrong(sentence: str) -> DatasetFinding:
        return DatasetFinding(checked.case.case_id, True, sentence)

    def notice(sentence: str) -> DatasetFinding:
        return DatasetFinding(checked.case.case_id, False, sentence)

    if checked.fingerprint != checked.case.entry.fingerprint:
        yield wrong("Its voxels do not match their fingerprint in dataset.json. Copy or make it again.")
    reference = checked.volumes[checked.case.reference]
    spacing = reference.geometry.spacing_mm
    if max(abs(edge - dataset.spacing_mm) for edge in spacing) > 1e-3:
        yield wrong(f"Its voxels have edges of {_edges(spacing)} mm, not {dataset.spacing_mm:g}. Make it again.")
    head = head_mask(torch.from_numpy(reference.pixels)).numpy()
    for role, volume in checked.volumes.items():
        yield from map(wrong, _check_values(role, volume, head, dataset.manifest.source))
    annotators = checked.case.annotators
    for label, mask in zip(checked.case.labels, checked.masks, strict=True):
        if annotators[label] is Annotator.NODE:
            yield notice(f"{label} is the node's own segmentation, and no person changed it.")
        if annotators[label] is Annotator.PROGRAM:
            yield notice(f"{label} is a program's segmentation, and no person changed it.")
        if not mask.any():
            yield notice(
                f"{label} is empty"
                + (", because nobody annotated it." if annotators[label] is Annotator.NOBODY else ".")
            )
            continue
        if (share := 1 - (mask & head).sum() / mask.sum()) > _OUTSIDE:
            yield notice(f"{100 * share:.0f} % of {label} is outside of the head. Does it belong to another case?")
        if label in _ENHANCING and Role.T1CE in checked.volumes and _is_dark(checked, mask, head):
            yield notice(
                f"{label} is darker on T1CE than the rest of the head, as a cavity or necrosis is. Do the label "
                "numbers mean what they were taken for?"
            )
        known = find_label(label)
        own = known.defined_on if known is not None else None
        if own in checked.volumes:
            missing = np.isnan(checked.volumes[own].pixels) & mask
            if (share := missing.sum() / mask.sum()) > _OUTSIDE:
                yield notice(f"{100 * share:.0f} % of {label} is where {own} has no value.")


def _is_dark(checked: CheckedCase, mask: NDArray[np.bool_], head: NDArray[np.bool_]) -> bool:
    t1ce = checked.volumes[Role.T1CE].pixels
    known = np.isfinite(t1ce) & head
    inside, rest = mask & known, known & ~checked.masks.any(axis=0)
    if not inside.any() or not rest.any():
        return False
    return bool(np.median(t1ce[inside]) < _DARK * np.median(t1ce[rest]))


def _check_values(role: Role, volume: Volume, head: NDArray[np.bool_], source: DatasetSource) -> Iterable[str]:
    if np.isinf(volume.pixels).any():
        yield f"{role} holds infinite values."
    missing = np.isnan(volume.pixels)
    if missing.any() and source is DatasetSource.BRATS:
        yield f"{role} holds NaN, which BraTS images never do."
    elif head.any() and (share := missing[head].mean()) > _MOST_MISSING:
        yield f"{role} has no value in {100 * share:.0f} % of the head."
    known = volume.pixels[np.isfinite(volume.pixels)]
    if not known.size or known.min() == known.max():
        yield f"{role} is constant or has no values."
    elif role is Role.ADC and unit_factor(volume.pixels) != 1.0:
        typical = typical_value(volume.pixels)
        yield f"ADC has a median of {typical:.4g}; that of a brain is 300 to 3000 in 10^-6 mm2/s. Check its unit."


def _summarise(checked: CheckedCase) -> _Summary:
    reference = checked.case.reference
    pixels = checked.volumes[reference].pixels
    filled = torch.from_numpy(np.nan_to_num(pixels, nan=0.0))[None, None]
    coarse = functional.adaptive_avg_pool3d(filled, _COARSE_EDGE).numpy().ravel()
    coarse = coarse - coarse.mean()
    images = {role: image_fingerprint(volume.pixels) for role, volume in checked.volumes.items()}
    return _Summary(checked.case, images, reference, coarse / max(float(np.linalg.norm(coarse)), 1e-12))


def _compare_cases(summaries: list[_Summary]) -> Iterable[DatasetFinding]:
    """Find pairs of cases with equal or nearly equal images."""
    if len(summaries) < 2:
        return
    stack = np.stack([summary.coarse for summary in summaries])
    alike = stack @ stack.T
    for first, second in combinations(range(len(summaries)), 2):
        one, other = summaries[first], summaries[second]
        apart = one.case.patient != other.case.patient
        theirs = set(other.images.values())
        if equal := [role for role in _most_telling(one) if one.images[role] in theirs]:
            sentence = f"Its {equal[0]} equals that of case {other.case.case_id}. Remove one of them."
            yield DatasetFinding(one.case.case_id, True, sentence)
        elif apart and one.reference is other.reference and alike[first, second] > _SIMILAR:
            where = "in another split" if one.case.split is not other.case.split else "in the same split"
            sentence = (
                f"Its {one.reference} nearly equals that of {other.case.case_id}, another patient {where}. Is it one "
                "scan?"
            )
            yield DatasetFinding(one.case.case_id, False, sentence)


def _most_telling(summary: _Summary) -> list[Role]:
    return sorted(summary.images, key=lambda role: role is not summary.reference)


def _edges(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{edge:g}" for edge in spacing)
