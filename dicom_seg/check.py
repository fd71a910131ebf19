"""Check encoded objects before they are sent, reading them as any other program would; shares no code with encoders.

`check` is the strict check of the objects made from a result, voxels included. `check_objects` does the same for
objects of any origin, as far as the images of their study are known (see check_files). check_object checks what holds
for every object, check_references its references, check_seg a SEG, and check_sr a structured report.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_seg.check_object import Identity, check_file_header, check_identity, check_texts, check_uids
from dicom_seg.check_references import check_references, find_references, unknown_studies
from dicom_seg.check_seg import CheckedSeg, ExpectedVoxels, check_seg
from dicom_seg.check_sr import check_report
from dicom_seg.encode import EncodedObject
from dicom_seg.known_objects import CAPTURES, KnownObjects, is_report, known_from_result, series_of
from pipeline.result import MasksOnSeries, SegmentationResult


@dataclass(frozen=True, slots=True)
class CheckedObject:
    """What the check of one object found."""

    file_name: str
    sop_class_uid: str
    problems: tuple[str, ...]
    """Sentences; empty where nothing is wrong."""
    not_checked: tuple[str, ...] = ()
    """Sentences that say what could not be checked. Objects for which the same is missing have the same sentence."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What checks of earlier objects pass on to later ones."""

    segs: dict[str, CheckedSeg] = field(default_factory=dict)
    """By SOP instance UID, as are `names`."""
    names: dict[str, str] = field(default_factory=dict)
    identities: dict[Path, Identity] = field(default_factory=dict)


def check(objects: Sequence[EncodedObject], result: SegmentationResult) -> tuple[str, ...]:
    """Return what is wrong with the objects encoded from a result, as sentences; empty where nothing is.

    Every object: valid and unique UIDs, Explicit VR Little Endian, references that resolve, the patient and study of
    its source. SEG: the grid and slices of its source series, one derivation image per frame at the frame's own
    position, voxels equal to the masks. SR: all references are listed as evidence, segments and volumes agree with the
    SEG, numbers are plausible, regions lie inside their images. Captures name their source images.
    """
    with _quietly():
        known = known_from_result(result, [encoded.dataset for encoded in objects])
        expected = {
            position: _expected(encoded.dataset, result)
            for position, encoded in enumerate(objects)
            if encoded.sop_class_uid == SegmentationStorage
        }
    checked = check_objects(objects, known, expected)
    return tuple(f"{each.file_name}: {problem}" for each in checked for problem in each.problems)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep pydicom from warning of values, which it quotes, and of texts that do not fit their character set."""
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_objects(
    objects: Sequence[EncodedObject], known: KnownObjects, expected: Mapping[int, ExpectedVoxels] | None = None
) -> tuple[CheckedObject, ...]:
    """Check each object; the results are in the order of `objects`.

    `expected` holds the voxels of SEGs, by position in `objects`, where they are known.
    """
    earlier, checked = _Earlier(), dict[int, CheckedObject]()
    # SEGs first, because reports refer to their segments.
    order = sorted(range(len(objects)), key=lambda position: objects[position].sop_class_uid != SegmentationStorage)
    with _quietly():
        for position in order:
            checked[position] = _check_one(objects[position], known, (expected or {}).get(position), earlier)
    return tuple(checked[position] for position in range(len(objects)))


def _check_one(
    encoded: EncodedObject, known: KnownObjects, expected: ExpectedVoxels | None, earlier: _Earlier
) -> CheckedObject:
    problems, not_checked = list[str](), list[str]()
    try:
        references, study = find_references(encoded.dataset), str(encoded.dataset.get("StudyInstanceUID", ""))
        not_checked += [
            f"references into study {uid}, and all that must agree with its images, because none of them was given."
            for uid in unknown_studies(references, study, known)
        ]
        problems += _same_instance(encoded, earlier)
        problems += check_uids(encoded.dataset, known)
        problems += check_file_header(encoded.dataset, known.strict)
        problems += check_identity(encoded.dataset, references, known, earlier.identities)
        problems += check_references(references, study, known)
        if known.strict:
            problems += check_texts(encoded.dataset)
        problems += _check_by_class(encoded, known, expected, earlier)
    except (AttributeError, IndexError, TypeError, ValueError) as exc:
        # In an object of any origin, anything may be missing or malformed. The error's own text may quote a value.
        lacking = f"it has no {exc.name}" if isinstance(exc, AttributeError) else "something is missing or malformed"
        problems.append(f"{lacking}, so the rest of it was not checked.")
    return CheckedObject(encoded.file_name, encoded.sop_class_uid, tuple(dict.fromkeys(problems)), tuple(not_checked))


def _same_instance(encoded: EncodedObject, earlier: _Earlier) -> list[str]:
    first = earlier.names.setdefault(str(encoded.dataset.get("SOPInstanceUID", "")), encoded.file_name)
    return [] if first == encoded.file_name else [f"it has the same SOP instance UID as {first}."]


def _check_by_class(
    encoded: EncodedObject, known: KnownObjects, expected: ExpectedVoxels | None, earlier: _Earlier
) -> Sequence[str]:
    dataset = encoded.dataset
    if encoded.sop_class_uid == SegmentationStorage:
        earlier.segs[str(dataset.SOPInstanceUID)] = seg = check_seg(dataset, known, expected)
        return seg.problems
    if is_report(encoded.sop_class_uid):
        return tuple(check_report(dataset, known, earlier.segs))
    # A scanner's screenshot need not name its source images; our captures must.
    if encoded.sop_class_uid in CAPTURES and known.strict and not dataset.get("SourceImageSequence"):
        return ("it names no source image.",)
    return ()


def _expected(dataset: Dataset, result: SegmentationResult) -> ExpectedVoxels:
    on = _masks_of(dataset, result)
    frames = result.source(on.role).frames
    return ExpectedVoxels(on.masks, {(each.sop_instance_uid, each.number): n for n, each in enumerate(frames)})


def _masks_of(dataset: Dataset, result: SegmentationResult) -> MasksOnSeries:
    """Return the masks on the series that a SEG refers to, or those on T1CE if it refers to none of the sources."""
    series = dataset.get("ReferencedSeriesSequence")
    referenced = series[0].get("SeriesInstanceUID") if series else None
    for on in result.native:
        if referenced in series_of(result.source(on.role).series):
            return on
    return result.on_reference()
