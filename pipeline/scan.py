"""Find the studies in files and folders. Reads each header once, and no pixels."""

import filecmp
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
)

from pipeline.diffusion import with_unweighted
from pipeline.diffusion_tags import DIFFUSION_TAGS, b_value, gradient, scale_slope
from pipeline.errors import StudyUnreadable
from pipeline.functional_groups import (
    FRAME_GROUPS,
    SHARED_GROUPS,
    as_orientation,
    as_spacing,
    as_vector,
    frame_headers,
)
from pipeline.header import Header, NotDicom, PixelLocation, read_header
from pipeline.identity import IDENTITY_TAGS, STUDY_DATE, date_digits, demographics_sha256, read_identity
from pipeline.majority import majority
from pipeline.mosaic import MOSAIC_TAGS, tile_count
from pipeline.real_world import REAL_WORLD_MAPPING, real_world_scale
from pipeline.sample_format import BITS_ALLOCATED, FORMAT_TAGS, PIXEL_REPRESENTATION, sample_format
from pipeline.study import Ignored, Instance, Scan, Series, StoredPixels, Study
from pipeline.transfer_syntaxes import BIG_ENDIAN

MR_IMAGE_CLASSES = frozenset(
    {MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, EnhancedMRColorImageStorage}
)
_UID = re.compile(r"[0-9.]{1,64}")

STUDY_UID, SERIES_UID, FRAME_OF_REFERENCE_UID = 0x0020000D, 0x0020000E, 0x00200052
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
MODALITY, MANUFACTURER, SERIES_DESCRIPTION, PROTOCOL_NAME = 0x00080060, 0x00080070, 0x0008103E, 0x00181030
SERIES_NUMBER, ACQUISITION_NUMBER, INSTANCE_NUMBER = 0x00200011, 0x00200012, 0x00200013
IMAGE_TYPE, ACQUISITION_DATE, ACQUISITION_TIME, ACQUISITION_DATETIME = 0x00080008, 0x00080022, 0x00080032, 0x0008002A
CONTRAST_AGENT, CONTRAST_AGENT_SEQUENCE, BODY_PART = 0x00180010, 0x00180012, 0x00180015
SCANNING_SEQUENCE, ACQUISITION_TYPE = 0x00180020, 0x00180023
SLICE_THICKNESS, REPETITION_TIME, ECHO_TIME, INVERSION_TIME = 0x00180050, 0x00180080, 0x00180081, 0x00180082
ECHO_NUMBER, TRIGGER_TIME, TEMPORAL_POSITION = 0x00180086, 0x00181060, 0x00200100
POSITION, ORIENTATION, PIXEL_SPACING = 0x00200032, 0x00200037, 0x00280030
SAMPLES, PHOTOMETRIC, NUMBER_OF_FRAMES, ROWS, COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
RESCALE_INTERCEPT, RESCALE_SLOPE, RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054

HEADER_TAGS = [
    *(STUDY_UID, SERIES_UID, FRAME_OF_REFERENCE_UID, SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY, MANUFACTURER),
    *(SERIES_DESCRIPTION, PROTOCOL_NAME, SERIES_NUMBER, ACQUISITION_NUMBER, INSTANCE_NUMBER, IMAGE_TYPE),
    *(ACQUISITION_DATE, ACQUISITION_TIME, ACQUISITION_DATETIME, CONTRAST_AGENT, CONTRAST_AGENT_SEQUENCE, BODY_PART),
    *(SCANNING_SEQUENCE, ACQUISITION_TYPE, SLICE_THICKNESS, REPETITION_TIME, ECHO_TIME),
    *(INVERSION_TIME, ECHO_NUMBER, TRIGGER_TIME, TEMPORAL_POSITION, POSITION, ORIENTATION, PIXEL_SPACING),
    *(SAMPLES, PHOTOMETRIC, NUMBER_OF_FRAMES, ROWS, COLUMNS),
    *(RESCALE_INTERCEPT, RESCALE_SLOPE, RESCALE_TYPE, REAL_WORLD_MAPPING, SHARED_GROUPS, FRAME_GROUPS),
    *(*DIFFUSION_TAGS, *FORMAT_TAGS, *IDENTITY_TAGS, *MOSAIC_TAGS),
]


@dataclass(frozen=True, slots=True)
class _SeriesHeader:
    """The header values that all images of a series should share; where they do not, the majority is taken."""

    series_number: int | None
    description: str
    protocol_name: str
    modality: str
    manufacturer: str


def scan(paths: Iterable[Path]) -> Scan:
    """Find the studies in files and folders of any layout, in an order that does not depend on it.

    Other files are listed with a reason. Of copies of an object, one is taken; those with other bytes are listed with
    it, and `pipeline.repeated_uids` compares them where the series is used. An image whose pixels are missing or cut
    short stays in its series, with `has_pixels` False, so that reading the series fails instead of losing a slice.
    Series of all modalities are listed, including SEG and SR. Raises StudyUnreadable if a path does not exist.
    """
    instances: dict[tuple[str, str], dict[str, Instance]] = {}
    headers: dict[tuple[str, str], dict[str, _SeriesHeader]] = {}
    ignored: list[Ignored] = []
    for path in _files(paths):
        try:
            header = read_header(path, HEADER_TAGS)
            study_uid, series_uid, instance = _instance(path, header)
        except NotDicom as exc:
            ignored.append(Ignored(path, str(exc), exc.damaged))
            continue
        key = (study_uid, series_uid)
        headers.setdefault(key, {}).setdefault(instance.sop_instance_uid, _series_header(header))
        known = instances.setdefault(key, {}).setdefault(instance.sop_instance_uid, instance)
        if known is not instance:
            if instance.has_pixels and not known.has_pixels:
                instances[key][instance.sop_instance_uid] = replace(instance, copies=known.copies)
            elif instance.has_pixels and not _same_bytes(path, known.path):
                instances[key][instance.sop_instance_uid] = replace(known, copies=(*known.copies, instance))
            ignored.append(Ignored(path, "the same object as another file"))
    by_study: dict[str, list[Series]] = {}
    for (study_uid, series_uid), members in instances.items():
        by_study.setdefault(study_uid, []).append(_series(series_uid, headers[study_uid, series_uid], members))
    studies = (
        Study(uid, tuple(sorted(series, key=lambda one: (one.series_number or 0, one.series_instance_uid))))
        for uid, series in sorted(by_study.items())
    )
    return Scan(tuple(studies), tuple(ignored))


def _series(uid: str, headers: dict[str, _SeriesHeader], members: dict[str, Instance]) -> Series:
    instances = sorted(members.values(), key=lambda one: (one.instance_number or 0, one.sop_instance_uid))
    ordered = [headers[one.sop_instance_uid] for one in instances]
    manufacturer = majority(one.manufacturer for one in ordered) or ""
    return Series(
        series_instance_uid=uid,
        series_number=majority(one.series_number for one in ordered),
        description=majority(one.description for one in ordered) or "",
        protocol_name=majority(one.protocol_name for one in ordered) or "",
        modality=majority(one.modality for one in ordered) or _modality(instances),
        manufacturer=manufacturer,
        instances=with_unweighted(instances, manufacturer),
    )


def _modality(images: list[Instance]) -> str:
    """Return the modality by the SOP class, for images from which (0008,0060) was removed."""
    return "MR" if images and all(one.sop_class_uid in MR_IMAGE_CLASSES for one in images) else ""


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for given in paths:
        if not given.exists():
            raise StudyUnreadable(f"{given} does not exist; give an existing folder or files.")
        for path in _walk(given) if given.is_dir() else (given,):
            if path not in seen and path.is_file():
                seen.add(path)
                yield path


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root, name) for name in sorted(names))


def _series_header(header: Header) -> _SeriesHeader:
    return _SeriesHeader(
        series_number=header.integer(SERIES_NUMBER),
        description=header.free_text(SERIES_DESCRIPTION).removesuffix(" "),  # padding to even length
        protocol_name=header.free_text(PROTOCOL_NAME).removesuffix(" "),
        modality=header.text(MODALITY),
        manufacturer=header.text(MANUFACTURER),
    )


def _instance(path: Path, header: Header) -> tuple[str, str, Instance]:
    """Return study UID, series UID and the instance. Raises NotDicom if one of the UIDs is missing."""
    if header.text(SOP_CLASS_UID) == MediaStorageDirectoryStorage or path.name.upper() == "DICOMDIR":
        raise NotDicom("a DICOMDIR; the files that it lists are read themselves")
    uids = [header.text(tag) for tag in (STUDY_UID, SERIES_UID, SOP_INSTANCE_UID, SOP_CLASS_UID)]
    if not all(_UID.fullmatch(uid) for uid in uids):
        cut = header.pixels is None
        why = "cut short or damaged before" if cut else "without"
        raise NotDicom(f"DICOM, but {why} its study, series and instance UIDs", damaged=cut)
    study_uid, series_uid, sop_instance_uid, sop_class_uid = uids
    rows, columns = header.integer(ROWS) or 0, header.integer(COLUMNS) or 0
    frames = max(1, header.integer(NUMBER_OF_FRAMES) or 1)
    manufacturer = header.text(MANUFACTURER)
    per_frame = frame_headers(header, frames, manufacturer)
    # Values that the header of an enhanced image lacks are those of its first frame.
    first = per_frame[0] if per_frame else None
    return (
        study_uid,
        series_uid,
        Instance(
            path=path,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            number_of_frames=frames,
            rows=rows,
            columns=columns,
            samples_per_pixel=header.integer(SAMPLES) or 1,
            photometric_interpretation=header.text(PHOTOMETRIC),
            has_pixels=_pixels_complete(header, rows * columns * frames),
            instance_number=header.integer(INSTANCE_NUMBER),
            image_type=tuple(part.upper() for part in header.texts(IMAGE_TYPE)),
            position_mm=as_vector(header.numbers(POSITION)),
            orientation=as_orientation(header.numbers(ORIENTATION)) or (first.orientation if first else None),
            pixel_spacing_mm=as_spacing(header.numbers(PIXEL_SPACING)) or (first.pixel_spacing_mm if first else None),
            frame_of_reference_uid=header.text(FRAME_OF_REFERENCE_UID),
            echo_time_ms=_prefer(header.number(ECHO_TIME), first.echo_time_ms if first else None),
            repetition_time_ms=_prefer(header.number(REPETITION_TIME), first.repetition_time_ms if first else None),
            inversion_time_ms=_prefer(header.number(INVERSION_TIME), first.inversion_time_ms if first else None),
            b_value=b_value(header, manufacturer),
            temporal_position=header.integer(TEMPORAL_POSITION),
            acquisition_number=header.integer(ACQUISITION_NUMBER),
            contrast_agent=header.text(CONTRAST_AGENT) or ("named" if header.items(CONTRAST_AGENT_SEQUENCE) else None),
            scanning_sequence=header.texts(SCANNING_SEQUENCE),
            body_part=header.text(BODY_PART),
            acquisition_type=header.text(ACQUISITION_TYPE),
            slice_thickness_mm=_slice_thickness(header),
            acquired_at=_acquired_at(header),
            echo_number=header.integer(ECHO_NUMBER),
            trigger_time_ms=header.number(TRIGGER_TIME),
            gradient=gradient(header, manufacturer),
            rescale_slope=_number(header, RESCALE_SLOPE, 1.0),
            rescale_intercept=_number(header, RESCALE_INTERCEPT, 0.0),
            real_world=real_world_scale(header, header.integer(PIXEL_REPRESENTATION) == 1),
            stored=_stored(header),
            frames=per_frame,
            samples=sample_format(header),
            has_rescale=header.number(RESCALE_SLOPE) is not None,
            rescale_type=header.text(RESCALE_TYPE),
            tile_count=tile_count(header, manufacturer),
            series_instance_uid=series_uid,
            scale_slope=scale_slope(header, manufacturer),
            patient=read_identity(header),
            demographics_sha256=demographics_sha256(header),
            study_date=date_digits(header.text(STUDY_DATE)),
            acquired_on=date_digits(header.text(ACQUISITION_DATETIME) or header.text(ACQUISITION_DATE)),
        ),
    )


def _pixels_complete(header: Header, values: int) -> bool:
    pixels = header.pixels
    if pixels is None or not pixels.complete:
        return False
    if pixels.encapsulated:
        return True
    bits = header.integer(BITS_ALLOCATED) or 0
    return pixels.length * 8 >= values * bits * (header.integer(SAMPLES) or 1)


def _stored(header: Header) -> StoredPixels | None:
    pixels: PixelLocation | None = header.pixels
    if pixels is None or pixels.encapsulated:
        return None
    return StoredPixels(
        offset=pixels.offset,
        little_endian=header.transfer_syntax_uid not in BIG_ENDIAN,
        deflated=header.transfer_syntax_uid == DeflatedExplicitVRLittleEndian,
    )


def _acquired_at(header: Header) -> str:
    joined = header.text(ACQUISITION_DATETIME) or header.text(ACQUISITION_DATE) + header.text(ACQUISITION_TIME)
    return "".join(char for char in joined.split("+")[0] if char.isdigit())


def _slice_thickness(header: Header) -> float | None:
    for groups in header.items(SHARED_GROUPS):
        for measures in groups.items(0x00289110):
            return measures.number(SLICE_THICKNESS)
    return header.number(SLICE_THICKNESS)


def _number(header: Header, tag: int, default: float) -> float:
    value = header.number(tag)
    return default if value is None else value


def _prefer(value: float | None, other: float | None) -> float | None:
    return other if value is None else value
