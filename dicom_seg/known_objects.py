"""The images and results that a checked object may refer to, as their headers describe them. Reads no files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from pipeline.result import SegmentationResult
from pipeline.study import FrameHeader, Instance, Series

CAPTURES = (SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage)
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""Root of the SOP classes of structured reports (PS3.4 B.5)."""


def is_report(sop_class_uid: str) -> bool:
    """Return whether objects of this class are structured reports."""
    return sop_class_uid.startswith(_REPORTS)


def is_result(sop_class_uid: str) -> bool:
    """Return whether objects of this class can be checked: SEG, SR or secondary capture."""
    return sop_class_uid == SegmentationStorage or sop_class_uid in CAPTURES or is_report(sop_class_uid)


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that others may refer to, as its own header describes it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    number_of_frames: int
    rows: int
    """0 for an object that is not an image; so is `columns`."""
    columns: int
    image: Instance | None = None
    """Its scanned header; None for a result that has no file yet."""
    series: Series | None = None
    """The scanned series of `image`."""

    def frame(self, number: int) -> Instance | FrameHeader | None:
        """Return the header that gives the position of frame `number` (from 1), or None where there is none."""
        if self.image is None or self.number_of_frames == 1:
            return self.image and (self.image.frames[0] if self.image.frames else self.image)
        return self.image.frames[number - 1] if 1 <= number <= len(self.image.frames) else None


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """All objects against which references can be resolved."""

    by_uid: Mapping[str, KnownObject]
    """By SOP instance UID."""
    sources: tuple[KnownObject, ...]
    """Those that are scanned images and not results."""
    strict: bool
    """Whether the checked objects are the node's own: everything they may refer to is known, and they must also keep
    the node's narrower rules."""

    def covers(self, study_instance_uid: str) -> bool:
        """Return whether the study's objects are known, so that an unresolved reference into it is an error."""
        return self.strict or any(each.study_instance_uid == study_instance_uid for each in self.sources)

    def is_one_volume(self, series_instance_uids: Sequence[str]) -> bool:
        """Return whether the images of one volume came under these series."""
        volumes = {id(each.series): each.series for each in self.sources if each.series is not None}
        return any({*series_instance_uids} <= {*series_of(each)} for each in volumes.values())


def known_from_result(result: SegmentationResult, datasets: Sequence[Dataset]) -> KnownObjects:
    """Return what the objects encoded from `result` may refer to: its sources, the reference first, and each other."""
    by_uid: dict[str, KnownObject] = {}
    for source in sorted(result.sources, key=lambda source: source.role is not result.reference):
        by_uid.update(_images_of(result.study_instance_uid, source.series))
    for dataset in datasets:
        by_uid[str(dataset.get("SOPInstanceUID", ""))] = KnownObject(
            study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
            series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
            sop_class_uid=str(dataset.get("SOPClassUID", "")),
            number_of_frames=int(dataset.get("NumberOfFrames") or 1),
            rows=int(dataset.get("Rows") or 0),
            columns=int(dataset.get("Columns") or 0),
        )
    return _known(by_uid, strict=True)


def known_from_scan(series: Iterable[tuple[str, Series]]) -> KnownObjects:
    """Return the instances of scanned series, each given with the UID of its study."""
    by_uid: dict[str, KnownObject] = {}
    for study_instance_uid, each in series:
        by_uid.update(_images_of(study_instance_uid, each))
    return _known(by_uid, strict=False)


def series_of(series: Series) -> tuple[str, ...]:
    """Return the UIDs under which the images of a series come: several where one acquisition was sent as such."""
    return tuple(dict.fromkeys(_series_uid(instance, series) for instance in series.instances))


def _series_uid(instance: Instance, series: Series) -> str:
    return instance.series_instance_uid or series.series_instance_uid


def _known(by_uid: Mapping[str, KnownObject], strict: bool) -> KnownObjects:
    sources = tuple(each for each in by_uid.values() if each.image is not None and not is_result(each.sop_class_uid))
    return KnownObjects(by_uid, sources, strict)


def _images_of(study_instance_uid: str, series: Series) -> dict[str, KnownObject]:
    return {
        instance.sop_instance_uid: KnownObject(
            study_instance_uid=study_instance_uid,
            series_instance_uid=_series_uid(instance, series),
            sop_class_uid=instance.sop_class_uid,
            number_of_frames=instance.number_of_frames,
            rows=instance.rows,
            columns=instance.columns,
            image=instance,
            series=series,
        )
        for instance in series.instances
    }
