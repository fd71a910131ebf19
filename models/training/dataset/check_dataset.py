"""Look for what is wrong with a data set: files, places, values, labels, patients. Changes nothing in it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.labels import LABELS, Role
from models.training.dataset.dataset import Case, Dataset, channel_file, label_file, same_place
from models.training.dataset.fingerprint import case_fingerprint, dataset_fingerprint, image_fingerprint
from models.training.dataset.manifest import CASES_FOLDER, Annotator, DatasetBroken, DatasetSource, Split
from pipeline.adc_units import typical_value, unit_factor
from pipeline.normalise import head_mask
from pipeline.volume import Volume

_LIKE_EDGE = 12
"""Voxels of the coarse pictures by which images are compared."""
_ALIKE = 0.999
"""Correlation of two coarse pictures that may be of one scan. Those of two synthetic heads stay below 0.95."""
_MOST_MISSING = 0.5
"""Share of the head without a value beyond which a channel is no use."""
_OUTSIDE = 0.3
"""Share of a label outside of the head, or where its own channel has no value, that a person should look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a case or, without one, about the whole."""

    case_id: str
    wrong: bool
    """False for what a person should know, and may be right."""
    sentence: str


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """A case whose files could be read."""

    case: Case
    volumes: dict[Role, Volume]
    masks: NDArray[np.bool_]
    """(labels, slices, rows, columns)"""
    fingerprint: str
    """Of what lies there now."""

    @property
    def volumes_ml(self) -> tuple[float, ...]:
        """Of each label."""
        voxel = self.case_voxel_mm3
        return tuple(float(mask.sum()) * voxel / 1000 for mask in self.masks)

    @property
    def case_voxel_mm3(self) -> float:
        """Of one voxel."""
        return next(iter(self.volumes.values())).geometry.voxel_volume_mm3


@dataclass(frozen=True, slots=True)
class _Look:
    """What of a case is kept to compare it with the others."""

    case: Case
    images: str
    coarse: NDArray[np.float32]


def check_dataset(dataset: Dataset, seen: Callable[[CheckedCase, tuple[Finding, ...]], None]) -> tuple[Finding, ...]:
    """All findings; `seen` is given each readable case with its own, and the case is forgotten after."""
    findings = list(_of_the_whole(dataset))
    looks: list[_Look] = []
    entries = []
    for case in dataset.cases:
        try:
            checked = _read(case, dataset)
        except DatasetBroken as exc:
            findings.append(Finding(case.case_id, True, str(exc)))
            entries.append(case.entry)
            continue
        own = tuple(_of_a_case(checked, dataset))
        findings += own
        looks.append(_look(checked))
        entries.append(case.entry)
        seen(checked, own)
    findings += _of_pairs(looks)
    whole = dataset_fingerprint(dataset.manifest.source, dataset.channels, dataset.labels, dataset.spacing_mm, entries)
    if whole != dataset.fingerprint:
        findings.append(Finding("", True, "dataset.json was changed by hand: its fingerprint is another's."))
    return tuple(findings)


def _read(case: Case, dataset: Dataset) -> CheckedCase:
    volumes = dict(case.volumes(dataset.channels))
    masks, place = case.placed_masks(dataset.labels)
    geometry = volumes[dataset.channels[0]].geometry
    if not same_place(place, geometry):
        raise DatasetBroken(f"Case {case.case_id}: its labels do not stand where its channels do. Make it again.")
    parts: list[tuple[str, NDArray[Any]]] = [(channel_file(role), volume.pixels) for role, volume in volumes.items()]
    parts += [(label_file(label), mask) for label, mask in zip(dataset.labels, masks, strict=True)]
    return CheckedCase(case, volumes, masks, case_fingerprint(parts, geometry))


def _of_the_whole(dataset: Dataset) -> Iterable[Finding]:
    counts = Counter(case.split for case in dataset.cases)
    for split in (Split.TRAIN, Split.VALIDATION):
        if not counts[split]:
            yield Finding("", False, f"There is no case for {split}.")
    splits: dict[str, set[Split]] = {}
    for case in dataset.cases:
        splits.setdefault(case.patient, set()).add(case.split)
    for patient, found in splits.items():
        if len(found) > 1:
            names = " and ".join(sorted(found))
            yield Finding("", True, f"Patient {patient} is in {names}. Make the data set anew.")
    known = {case.case_id for case in dataset.cases}
    strays = sorted(path.name for path in (dataset.folder / CASES_FOLDER).iterdir() if path.name not in known)
    for name in strays:
        yield Finding("", False, f"The folder {CASES_FOLDER}/{name} is no case of dataset.json. Remove it.")


def _of_a_case(checked: CheckedCase, dataset: Dataset) -> Iterable[Finding]:
    def wrong(sentence: str) -> Finding:
        return Finding(checked.case.case_id, True, sentence)

    def notice(sentence: str) -> Finding:
        return Finding(checked.case.case_id, False, sentence)

    if checked.fingerprint != checked.case.entry.fingerprint:
        yield wrong("Its voxels are not those that dataset.json was written for. Copy or make it again.")
    spacing = checked.volumes[dataset.channels[0]].geometry.spacing_mm
    if max(abs(edge - dataset.spacing_mm) for edge in spacing) > 1e-3:
        yield wrong(f"Its voxels have edges of {_edges(spacing)} mm, not {dataset.spacing_mm:g}. Make it again.")
    head = head_mask(torch.from_numpy(checked.volumes[Role.T1CE].pixels)).numpy()
    for role, volume in checked.volumes.items():
        yield from map(wrong, _wrong_values(role, volume, head, dataset.manifest.source))
    annotators = dict(checked.case.entry.annotators)
    for label, mask in zip(dataset.labels, checked.masks, strict=True):
        if annotators.get(label) is Annotator.NODE:
            yield notice(f"{label} is the node's own, and no person changed it.")
        if not mask.any():
            yield notice(
                f"{label} is empty"
                + (", because nobody drew it." if annotators.get(label) is Annotator.NOBODY else ".")
            )
            continue
        if (share := 1 - (mask & head).sum() / mask.sum()) > _OUTSIDE:
            yield notice(f"{100 * share:.0f} % of {label} lies outside of the head. Is it another case's?")
        own = next((each.defined_on for each in LABELS if each.name == label), None)
        if own in checked.volumes:
            missing = np.isnan(checked.volumes[own].pixels) & mask
            if (share := missing.sum() / mask.sum()) > _OUTSIDE:
                yield notice(f"{100 * share:.0f} % of {label} lies where {own} has no value.")


def _wrong_values(role: Role, volume: Volume, head: NDArray[np.bool_], source: DatasetSource) -> Iterable[str]:
    if np.isinf(volume.pixels).any():
        yield f"{role} holds infinite values."
    missing = np.isnan(volume.pixels)
    if missing.any() and source is DatasetSource.BRATS:
        yield f"{role} holds NaN, which BraTS never does."
    elif head.any() and (share := missing[head].mean()) > _MOST_MISSING:
        yield f"{role} has no value in {100 * share:.0f} % of the head."
    known = volume.pixels[np.isfinite(volume.pixels)]
    if not known.size or known.min() == known.max():
        yield f"{role} has one value everywhere, or none."
    elif role is Role.ADC and unit_factor(volume.pixels) != 1.0:
        typical = typical_value(volume.pixels)
        yield f"ADC has a median of {typical:.4g}, and a brain's is 300 to 3000 in 10^-6 mm2/s. Check its units."


def _look(checked: CheckedCase) -> _Look:
    pixels = checked.volumes[Role.T1CE].pixels
    filled = torch.from_numpy(np.nan_to_num(pixels, nan=0.0))[None, None]
    coarse = functional.adaptive_avg_pool3d(filled, _LIKE_EDGE).numpy().ravel()
    coarse = coarse - coarse.mean()
    return _Look(checked.case, image_fingerprint(pixels), coarse / max(float(np.linalg.norm(coarse)), 1e-12))


def _of_pairs(looks: list[_Look]) -> Iterable[Finding]:
    """Equal and nearly equal images under two names."""
    if len(looks) < 2:
        return
    stack = np.stack([look.coarse for look in looks])
    alike = stack @ stack.T
    for first, second in combinations(range(len(looks)), 2):
        one, other = looks[first], looks[second]
        apart = one.case.patient != other.case.patient
        if one.images == other.images:
            yield Finding(one.case.case_id, True, f"Its T1CE is that of case {other.case.case_id}. Remove one of them.")
        elif apart and alike[first, second] > _ALIKE:
            where = "in another split" if one.case.split is not other.case.split else "in the same split"
            sentence = f"Its T1CE is nearly that of case {other.case.case_id}, another patient {where}. Is it one scan?"
            yield Finding(one.case.case_id, False, sentence)


def _edges(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{edge:g}" for edge in spacing)
