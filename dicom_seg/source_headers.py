"""Read the headers of a source series again: patient and study, and the image and position of each slice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage

from dicom_seg.copied_elements import EQUIPMENT_KEYWORDS, copied_tags, copy_elements, undecoded
from dicom_seg.uids import derive_uid, naming_image
from pipeline.errors import OutputRefused
from pipeline.header import NotDicom, read_header
from pipeline.result import SourceSeries
from pipeline.volume import Frame

_SOP_INSTANCE_UID, _NUMBER_OF_FRAMES, _POSITION = 0x00080018, 0x00280008, 0x00200032
POSITION_REFERENCE = Tag(0x00201040)


@dataclass(frozen=True, slots=True)
class SourcePlane:
    """The image of one slice, and the position in its header."""

    frame: Frame
    multi_frame: bool
    """Whether references to the image must name a frame number."""
    position_mm: tuple[float, float, float]
    """(0020,0032) as in the header, not adjusted to the regular grid that was read from the series."""


@dataclass(frozen=True, slots=True)
class SourceHeaders:
    """The headers of a series, with slices in the order of the `SourceSeries` from which they were read."""

    first: Dataset
    """The whole header of the first slice's image, without pixels."""
    copied: Dataset
    """The elements of the patient and study modules, the character set and the time zone, as they stand in the file.

    They are those of the first image that names the patient, because a single image may leave the names out.
    """
    equipment: Dataset
    """The elements that describe the scanner, and the position reference indicator, as they stand in the file."""
    planes: tuple[SourcePlane, ...]
    orientation: tuple[float, ...]
    """(0020,0037) of the first slice; the other slices may differ by rounding."""
    pixel_spacing_mm: tuple[float, float]
    """(0028,0030): between rows, between columns."""
    slice_thickness_mm: float
    slice_spacing_mm: float
    """Between slice centres, from the geometry of the volume."""
    rows: int
    columns: int
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str

    @property
    def instances(self) -> tuple[tuple[str, str, str], ...]:
        """Return (series instance UID, SOP class UID, SOP instance UID) of each image once, in slice order."""
        frames = (plane.frame for plane in self.planes)
        return tuple(dict.fromkeys((self._series_of(f), f.sop_class_uid, f.sop_instance_uid) for f in frames))

    def _series_of(self, frame: Frame) -> str:
        return frame.series_instance_uid or self.series_instance_uid

    def stand_in(self, index: int) -> Dataset:
        """Return a plain single-frame MR header for slice `index`, to be given to highdicom.

        highdicom needs the images of a series to be either all single-frame with exactly the same orientation, or one
        multi-frame image of which every frame is used; series from scanners are often neither. The SOP instance UID is
        `stand_in_uid(index)`; the caller replaces it by the real reference. Patient attributes are empty, because
        highdicom would log names that it finds malformed; those of the equipment only say that there is one. `finalise`
        puts the real ones in their place.
        """
        plane = self.planes[index]
        header = Dataset()
        header.SOPClassUID = MRImageStorage
        header.SOPInstanceUID = stand_in_uid(index)
        header.StudyInstanceUID = self.study_instance_uid
        header.SeriesInstanceUID = self.series_instance_uid
        header.FrameOfReferenceUID = self.frame_of_reference_uid
        header.PositionReferenceIndicator = ""
        header.Modality = "MR"
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            setattr(header, keyword, "")
        for keyword in ("StudyDate", "StudyTime", "ReferringPhysicianName"):
            setattr(header, keyword, "")
        for element in undecoded(self.equipment):
            if element.tag != POSITION_REFERENCE and element.value:
                header.add_new(element.tag, str(element.VR), "x")
        header.Rows, header.Columns = self.rows, self.columns
        header.ImagePositionPatient = list(plane.position_mm)
        header.ImageOrientationPatient = list(self.orientation)
        header.PixelSpacing = list(self.pixel_spacing_mm)
        header.SliceThickness = self.slice_thickness_mm
        header.SpacingBetweenSlices = self.slice_spacing_mm
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in self.first:
                setattr(header, keyword, self.first.get(keyword))
        return header


def stand_in_uid(index: int) -> str:
    """Return the SOP instance UID of the stand-in for slice `index`. It does not occur in encoded objects."""
    return f"2.25.{index + 1}"


def read_headers(source: SourceSeries) -> SourceHeaders:
    """Read the headers of a series again from its files. Raises OutputRefused where a file is missing or changed."""
    paths = {instance.sop_instance_uid: instance.path for instance in source.series.instances}
    headers: dict[str, Dataset] = {}
    planes: list[SourcePlane] = []
    for frame in source.frames:
        uid = frame.sop_instance_uid
        if uid not in paths:
            raise OutputRefused(
                f"Series {source.series.series_instance_uid}: image {uid} has no file. Process the study again."
            )
        plane = _single_frame_plane(frame, paths[uid]) if planes and uid not in headers else None
        if plane is None:
            headers[uid] = headers.get(uid) or _read(paths[uid], uid)
            plane = _plane(frame, headers[uid])
        planes.append(plane)
    first = headers[source.frames[0].sop_instance_uid]
    naming = naming_image(source)
    assert naming is not None, "every slice has an image, see above"
    header = _read(naming.path, naming.sop_instance_uid)
    number = source.frames[0].number
    spacing = _in_frame(first, number, "PixelMeasuresSequence", "PixelSpacing")
    thickness = _in_frame(first, number, "PixelMeasuresSequence", "SliceThickness")
    orientation = _in_frame(first, number, "PlaneOrientationSequence", "ImageOrientationPatient")
    if spacing is None or orientation is None:
        raise OutputRefused(
            f"Series {source.series.series_instance_uid}: its first image lost its spacing or orientation. Resend it."
        )
    _, rows, columns = source.geometry.shape
    return SourceHeaders(
        first=first,
        copied=copy_elements(header, copied_tags()),
        equipment=copy_elements(header, [*map(Tag, EQUIPMENT_KEYWORDS), POSITION_REFERENCE]),
        planes=tuple(planes),
        orientation=tuple(float(value) for value in orientation),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        # (0018,0050) is type 2; where it is empty, slices without a gap are the best guess.
        slice_thickness_mm=float(thickness or source.geometry.spacing_mm[0]),
        slice_spacing_mm=source.geometry.spacing_mm[0],
        rows=rows,
        columns=columns,
        series_instance_uid=source.series.series_instance_uid,
        study_instance_uid=str(first.StudyInstanceUID),
        # SEG requires a frame of reference; a series without one gets one of its own.
        frame_of_reference_uid=str(first.get("FrameOfReferenceUID", ""))
        or derive_uid("frame of reference", source.series.series_instance_uid),
    )


def _read(path: Path, uid: str) -> Dataset:
    try:
        header = dcmread(path, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError, ValueError) as exc:
        # The message has no path, because folders may be named after patients.
        raise _unreadable(uid) from exc
    if header.get("SOPInstanceUID") != uid:
        raise _replaced(uid)
    return header


def _single_frame_plane(frame: Frame, path: Path) -> SourcePlane | None:
    """Read only the position of a single-frame image; return None for an image that needs its whole header."""
    try:
        header = read_header(path, (_SOP_INSTANCE_UID, _NUMBER_OF_FRAMES, _POSITION))
    except NotDicom as exc:
        raise _unreadable(frame.sop_instance_uid) from exc
    if header.text(_SOP_INSTANCE_UID) != frame.sop_instance_uid:
        raise _replaced(frame.sop_instance_uid)
    position = header.numbers(_POSITION)
    if header.text(_NUMBER_OF_FRAMES) or len(position) != 3:
        return None
    return SourcePlane(frame, False, (position[0], position[1], position[2]))


def _unreadable(uid: str) -> OutputRefused:
    return OutputRefused(f"Image {uid} cannot be read again, but results need its header. Send it again.")


def _replaced(uid: str) -> OutputRefused:
    return OutputRefused(f"The file of image {uid} holds another image now. Process the study again.")


def _plane(frame: Frame, header: Dataset) -> SourcePlane:
    position = _in_frame(header, frame.number, "PlanePositionSequence", "ImagePositionPatient")
    if position is None:
        raise OutputRefused(
            f"Image {frame.sop_instance_uid}: frame {frame.number} has lost its position. Send it again."
        )
    return SourcePlane(
        frame=frame,
        multi_frame="PerFrameFunctionalGroupsSequence" in header or int(header.get("NumberOfFrames") or 1) > 1,
        position_mm=(float(position[0]), float(position[1]), float(position[2])),
    )


def _in_frame(header: Dataset, number: int, group: str, keyword: str) -> Any:
    """Return a geometry attribute of one frame: from its own or the shared functional groups, or from the root."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    for groups in (per_frame[number - 1] if per_frame and len(per_frame) >= number else None, shared and shared[0]):
        if groups and group in groups and keyword in groups[group][0]:
            return groups[group][0].get(keyword)
    return header.get(keyword)
