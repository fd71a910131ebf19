"""Our own last look before anything is sent. Reads objects as a stranger would; shares no code with the encoders.

`check` is the strict look at what was made of a result, voxels included; `look_at` is the same look at anybody's
objects with as much of their study as is at hand (see check_files). What is asked of every object is in check_object,
of what it refers to in check_references, of a SEG in check_seg, of an SR in check_sr.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_seg.at_hand import CAPTURES, AtHand, around_result, is_report
from dicom_seg.check_object import Identity, check_file_header, check_identity, check_uids
from dicom_seg.check_references import check_references, references, unseen_studies
from dicom_seg.check_seg import ExpectedVoxels, SegLook, look_at_seg
from dicom_seg.check_sr import check_report
from dicom_seg.encode import EncodedObject
from pipeline.result import MasksOnSeries, SegmentationResult


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one object found."""

    file_name: str
    sop_class_uid: str
    problems: tuple[str, ...]
    """Sentences; empty where nothing is wrong."""
    not_checked: tuple[str, ...] = ()
    """Sentences: what could not be looked up. Objects with the same lack have the same sentence."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What looks at earlier objects leave for later ones."""

    segs: dict[str, SegLook] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """File names by SOP instance UID."""
    identities: dict[Path, Identity] = field(default_factory=dict)


def check(objects: Sequence[EncodedObject], result: SegmentationResult) -> tuple[str, ...]:
    """What is wrong with the objects made of a result, as sentences; empty where nothing is.

    Every object: valid UIDs, unique, Explicit VR Little Endian, references that are found, the patient and study of its
    source. SEG: the grid and slices of its source series, one derivation image per frame that stands where the frame
    stands, voxels equal to the masks. SR: everything that it refers to is among its evidence, its segments and volumes
    are those of the SEG, its numbers are sane, its regions inside of their images. Captures name their source images.
    """
    at_hand = around_result(result, [encoded.dataset for encoded in objects])
    expected = {
        position: _expected(encoded.dataset, result)
        for position, encoded in enumerate(objects)
        if encoded.sop_class_uid == SegmentationStorage
    }
    looks = look_at(objects, at_hand, expected)
    return tuple(f"{look.file_name}: {problem}" for look in looks for problem in look.problems)


def look_at(
    objects: Sequence[EncodedObject], at_hand: AtHand, expected: Mapping[int, ExpectedVoxels] | None = None
) -> tuple[Look, ...]:
    """One look for each object. `expected` is what SEGs must hold, by position in `objects`, where that is known."""
    seen, looks = _Seen(), dict[int, Look]()
    # SEGs first, because reports speak of their segments.
    order = sorted(range(len(objects)), key=lambda position: objects[position].sop_class_uid != SegmentationStorage)
    with disable_value_validation():  # pydicom's complaints about values quote them
        for position in order:
            looks[position] = _look(objects[position], at_hand, (expected or {}).get(position), seen)
    return tuple(looks[position] for position in range(len(objects)))


def _look(encoded: EncodedObject, at_hand: AtHand, expected: ExpectedVoxels | None, seen: _Seen) -> Look:
    problems, not_checked = list[str](), list[str]()
    try:
        mentioned, study = references(encoded.dataset), str(encoded.dataset.get("StudyInstanceUID", ""))
        not_checked += [
            f"references into study {uid} and what must be as in its images, of which none is at hand."
            for uid in unseen_studies(mentioned, study, at_hand)
        ]
        problems += _same_instance(encoded, seen)
        problems += check_uids(encoded.dataset, at_hand)
        problems += check_file_header(encoded.dataset, at_hand.strict)
        problems += check_identity(encoded.dataset, mentioned, at_hand, seen.identities)
        problems += check_references(mentioned, study, at_hand)
        problems += _look_by_kind(encoded, at_hand, expected, seen)
    except (AttributeError, IndexError, TypeError, ValueError) as exc:
        # Of anybody's object anything may be missing or malformed. The error's own text may quote a value.
        lacking = f"it has no {exc.name}" if isinstance(exc, AttributeError) else "something is missing or malformed"
        problems.append(f"{lacking}, so that the look at it ended there.")
    return Look(encoded.file_name, encoded.sop_class_uid, tuple(dict.fromkeys(problems)), tuple(not_checked))


def _same_instance(encoded: EncodedObject, seen: _Seen) -> list[str]:
    first = seen.names.setdefault(str(encoded.dataset.get("SOPInstanceUID", "")), encoded.file_name)
    return [] if first == encoded.file_name else [f"it has the same SOP instance UID as {first}."]


def _look_by_kind(
    encoded: EncodedObject, at_hand: AtHand, expected: ExpectedVoxels | None, seen: _Seen
) -> Sequence[str]:
    dataset = encoded.dataset
    if encoded.sop_class_uid == SegmentationStorage:
        seen.segs[str(dataset.SOPInstanceUID)] = look = look_at_seg(dataset, at_hand, expected)
        return look.problems
    if is_report(encoded.sop_class_uid):
        return tuple(check_report(dataset, at_hand, seen.segs))
    # A scanner's screen shot need not say of what it is; ours must.
    if encoded.sop_class_uid in CAPTURES and at_hand.strict and not dataset.get("SourceImageSequence"):
        return ("it names no source image.",)
    return ()


def _expected(dataset: Dataset, result: SegmentationResult) -> ExpectedVoxels:
    on = _masks_of(dataset, result)
    frames = result.source(on.role).frames
    return ExpectedVoxels(on.masks, {(each.sop_instance_uid, each.number): n for n, each in enumerate(frames)})


def _masks_of(dataset: Dataset, result: SegmentationResult) -> MasksOnSeries:
    """The masks whose series a SEG refers to; those on T1CE where it refers to none of ours."""
    series = dataset.get("ReferencedSeriesSequence")
    referenced = series[0].get("SeriesInstanceUID") if series else None
    for on in result.native:
        if result.source(on.role).series.series_instance_uid == referenced:
            return on
    return result.on_t1ce()
