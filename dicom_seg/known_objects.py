"""What is at hand around the objects that are looked at: images and results that they may refer to. Reads no files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from models.labels import Role
from pipeline.result import SegmentationResult
from pipeline.study import FrameHeader, Instance, Series

CAPTURES = (SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage)
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""Root of the SOP classes of structured reports (PS3.4 B.5)."""


def is_report(sop_class_uid: str) -> bool:
    """Whether objects of this class are structured reports."""
    return sop_class_uid.startswith(_REPORTS)


def is_result(sop_class_uid: str) -> bool:
    """Whether objects of this class are what is looked at here: SEG, SR or secondary capture."""
    return sop_class_uid == SegmentationStorage or sop_class_uid in CAPTURES or is_report(sop_class_uid)


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that others may refer to, as its own header has it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    number_of_frames: int
    rows: int
    """0 in what is no image, as are `columns`."""
    columns: int
    image: Instance | None = None
    """Its scanned header; None for a result that has no file yet."""
    series: Series | None = None
    """The scanned series of `image`."""

    def frame(self, number: int) -> Instance | FrameHeader | None:
        """What says where frame `number` (from 1) stands; None where nothing does."""
        if self.image is None or self.number_of_frames == 1:
            return self.image and (self.image.frames[0] if self.image.frames else self.image)
        return self.image.frames[number - 1] if 1 <= number <= len(self.image.frames) else None


@dataclass(frozen=True, slots=True)
class AtHand:
    """All that can be looked up."""

    known: Mapping[str, KnownObject]
    """By SOP instance UID."""
    sources: tuple[KnownObject, ...]
    """Those that are scanned images and no results."""
    strict: bool
    """Whether the objects are ours: all that they may refer to is at hand, and they keep our own narrower rules."""

    def must_have(self, study_instance_uid: str) -> bool:
        """Whether a reference into this study that is not found leads nowhere, instead of to what we cannot see."""
        return self.strict or any(each.study_instance_uid == study_instance_uid for each in self.sources)


def around_result(result: SegmentationResult, datasets: Sequence[Dataset]) -> AtHand:
    """What the objects made of `result` may refer to: its source series, T1CE first, and each other."""
    known: dict[str, KnownObject] = {}
    for source in sorted(result.sources, key=lambda source: source.role is not Role.T1CE):
        known.update(_of_series(result.study_instance_uid, source.series))
    for dataset in datasets:
        known[str(dataset.get("SOPInstanceUID", ""))] = KnownObject(
            study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
            series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
            sop_class_uid=str(dataset.get("SOPClassUID", "")),
            number_of_frames=int(dataset.get("NumberOfFrames") or 1),
            rows=int(dataset.get("Rows") or 0),
            columns=int(dataset.get("Columns") or 0),
        )
    return _at_hand(known, strict=True)


def around_files(series: Iterable[tuple[str, Series]]) -> AtHand:
    """What was scanned: series, each with the UID of its study."""
    known: dict[str, KnownObject] = {}
    for study_instance_uid, each in series:
        known.update(_of_series(study_instance_uid, each))
    return _at_hand(known, strict=False)


def _at_hand(known: Mapping[str, KnownObject], strict: bool) -> AtHand:
    sources = tuple(each for each in known.values() if each.image is not None and not is_result(each.sop_class_uid))
    return AtHand(known, sources, strict)


def _of_series(study_instance_uid: str, series: Series) -> dict[str, KnownObject]:
    return {
        instance.sop_instance_uid: KnownObject(
            study_instance_uid=study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            number_of_frames=instance.number_of_frames,
            rows=instance.rows,
            columns=instance.columns,
            image=instance,
            series=series,
        )
        for instance in series.instances
    }
