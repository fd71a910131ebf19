"""Small synthetic MR series on disk, written by pydicom, and results that point at them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import read_headers
from dicom_seg.write import write_dicom
from models.labels import ADC_ABNORMALITY, FLAIR_HYPERINTENSITY, PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.alignment import RoleAlignment
from pipeline.result import (
    AdcStatistics,
    Diameter,
    LabelMeasurement,
    LesionDiameters,
    MasksOnSeries,
    ModelIdentity,
    Panels,
    SegmentationResult,
    SourceSeries,
)
from pipeline.scan import scan
from pipeline.volume import IDENTITY, Frame, Geometry

# Columns of (slice, row, column) steps' directions; PS3.3 C.7.6.2.1.1, LPS.
AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
SAGITTAL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)


def _rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


CORONAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)
OBLIQUE = _rotation((1, 2, 3), 23.0) @ AXIAL
ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    # Tilted about one axis of the patient, as brains are scanned along the corpus callosum, and about two.
    "tilted": _rotation((1, 0, 0), -17.0) @ AXIAL,
    "double oblique": _rotation((0, 1, 0), 11.0) @ _rotation((1, 0, 0), -17.0) @ AXIAL,
    "oblique": OBLIQUE,
}


@dataclass(frozen=True)
class Patient:
    name: str = "Doe^Jane"
    character_set: str | list[str] | None = "ISO_IR 100"


@dataclass(frozen=True)
class Grid:
    """The geometry of a synthetic series."""

    directions: np.ndarray = field(default_factory=lambda: AXIAL)
    shape: tuple[int, int, int] = (7, 13, 11)
    spacing_mm: tuple[float, float, float] = (2.5, 1.25, 0.9)
    origin_mm: tuple[float, float, float] = (-20.5, 33.25, -7.125)
    enhanced: bool = False
    descending: bool = False
    """Whether file numbers run from the last slice to the first; otherwise they are shuffled."""

    def geometry(self, frame_of_reference_uid: str) -> Geometry:
        affine = np.eye(4)
        affine[:3, :3] = self.directions * np.array(self.spacing_mm)
        affine[:3, 3] = self.origin_mm
        return Geometry.from_affine(affine, self.shape, frame_of_reference_uid)


def _ds(values: np.ndarray) -> list[str]:
    return [f"{value:.10g}"[:16] for value in values]


def _common(patient: Patient, study: str, series: str, frame_of_reference: str, description: str) -> Dataset:
    header = Dataset()
    if patient.character_set is not None:
        header.SpecificCharacterSet = patient.character_set
    header.StudyDate, header.StudyTime, header.ContentDate, header.ContentTime = (
        "20260102",
        "101112",
        "20260102",
        "101213",
    )
    header.AcquisitionDateTime = "20260102101200"
    header.AccessionNumber = "A1"
    header.Modality = "MR"
    header.Manufacturer = "SIEMENS"
    header.ManufacturerModelName = "Skyra"
    header.DeviceSerialNumber = "4711"
    header.SoftwareVersions = "syngo MR E11"
    header.InstitutionName = "General Hospital"
    header.ReferringPhysicianName = ""
    header.SeriesDescription = description
    header.PatientName = patient.name
    header.PatientID = "P-1"
    header.PatientBirthDate = "19600101"
    header.PatientSex = "F"
    header.PatientAge = "066Y"
    header.PatientWeight = "70"
    header.PatientPosition = "HFS"
    header.StudyInstanceUID = study
    header.SeriesInstanceUID = series
    header.StudyID = "S1"
    header.StudyDescription = "MR brain"
    header.SeriesNumber = 3
    header.FrameOfReferenceUID = frame_of_reference
    header.PositionReferenceIndicator = ""
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    return header


def _save(header: Dataset, path: Path) -> None:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    dcmwrite(path, header, enforce_file_format=True)


def _write_series(
    folder: Path, role: Role, grid: Grid, patient: Patient, study: str, frame_of_reference: str
) -> SourceSeries:
    folder.mkdir(parents=True)
    geometry = grid.geometry(frame_of_reference)
    series_uid = generate_uid(entropy_srcs=[study, role])
    header = _common(patient, study, series_uid, frame_of_reference, f"series {role}")
    slices, header.Rows, header.Columns = grid.shape
    positions = [geometry.affine[:3, 3] + index * geometry.affine[:3, 0] for index in range(slices)]
    orientation = _ds(np.concatenate([grid.directions[:, 2], grid.directions[:, 1]]))
    pixel_bytes = bytes(header.Rows * header.Columns * 2)
    order = list(range(slices))[::-1]
    if not grid.descending:
        random.Random(7).shuffle(order)
    write = _write_enhanced if grid.enhanced else _write_classic
    frames = write(folder, header, positions, orientation, pixel_bytes, order, grid)
    ((series,),) = (study.series for study in scan([folder]).studies)
    return SourceSeries(role=role, series=series, geometry=geometry, frames=tuple(frames), why=())


def _write_classic(folder, header, positions, orientation, pixel_bytes, order, grid):  # type: ignore[no-untyped-def]
    frames = {}
    for number, index in enumerate(order, 1):
        image = Dataset(header)
        image._dict = dict(header._dict)
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = generate_uid(entropy_srcs=[header.SeriesInstanceUID, str(index)])
        image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SP", ""
        image.MRAcquisitionType, image.EchoTime, image.EchoTrainLength = "3D", "3", 1
        image.InstanceNumber = number
        image.ImagePositionPatient = _ds(positions[index])
        image.ImageOrientationPatient = orientation
        image.PixelSpacing = _ds(np.array(grid.spacing_mm[1:]))
        image.SliceThickness = str(grid.spacing_mm[0])
        image.PixelData = pixel_bytes
        _save(image, folder / f"IM{number:04d}.dcm")
        frames[index] = Frame(MRImageStorage, image.SOPInstanceUID, 1)
    return [frames[index] for index in range(len(positions))]


def _write_enhanced(folder, header, positions, orientation, pixel_bytes, order, grid):  # type: ignore[no-untyped-def]
    """Write one enhanced image with its frames in the given order, after as many frames of another stack."""
    header.SOPClassUID = EnhancedMRImageStorage
    header.SOPInstanceUID = generate_uid(entropy_srcs=[header.SeriesInstanceUID, "enhanced"])
    header.InstanceNumber = 1
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _ds(np.array(grid.spacing_mm[1:])), str(grid.spacing_mm[0])
    plane.ImageOrientationPatient = orientation
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    groups, frames = [], {}
    for repeat in (False, True):
        for index in order:
            position, item = Dataset(), Dataset()
            position.ImagePositionPatient = _ds(positions[index])
            item.PlanePositionSequence = Sequence([position])
            item.PlaneOrientationSequence = Sequence([plane])
            groups.append(item)
            if repeat:
                frames[index] = Frame(EnhancedMRImageStorage, header.SOPInstanceUID, len(groups))
    header.PerFrameFunctionalGroupsSequence = Sequence(groups)
    header.NumberOfFrames = len(groups)
    header.PixelData = pixel_bytes * len(groups)
    _save(header, folder / "enhanced.dcm")
    return [frames[index] for index in range(len(positions))]


ADC_EXAMPLE = AdcStatistics(
    voxel_count=123,
    mean=1123.4375,
    median=1100.5,
    minimum=312.25,
    maximum=2801.0,
    standard_deviation=234.5625,
    percentile_10=800.125,
    percentile_90=1500.75,
)


def asymmetric_masks(shape: tuple[int, int, int]) -> np.ndarray:
    """Three overlapping masks, bool (label, slice, row, column), that no shift, flip or swap of axes maps to itself."""
    rng = np.random.default_rng(5)
    masks = np.zeros((3, *shape), bool)
    slices, rows, columns = shape
    for number in range(3):
        inner = rng.random((slices - 2 - number, rows - 3, columns - 4)) < 0.4
        masks[number, 1 : slices - 1 - number, 2 : rows - 1, 1 : columns - 3] = inner
    masks[:, 2, 3, 4] = True
    return masks


@pytest.fixture(scope="session")
def started() -> datetime:
    """The time at which the analysis began."""
    return datetime(2026, 3, 4, 5, 6, 7, 890123, timezone(timedelta(hours=2)))


MakeResult = Callable[..., SegmentationResult]


@pytest.fixture
def make_result(tmp_path: Path) -> MakeResult:
    """Return a function that writes a study of three series and returns a result on its T1CE series."""
    return _result_maker(tmp_path)


@pytest.fixture(scope="module")
def make_lasting_result(tmp_path_factory: pytest.TempPathFactory) -> MakeResult:
    """The same for results that the tests of a module share and must not change."""
    return _result_maker(tmp_path_factory.mktemp("studies"))


def _result_maker(parent: Path) -> MakeResult:
    counter = iter(range(1000))

    def make(
        masks: np.ndarray | None = None,
        *,
        orientation: str | np.ndarray = "axial",
        shape: tuple[int, int, int] = (7, 13, 11),
        spacing_mm: tuple[float, float, float] = (2.5, 1.25, 0.9),
        origin_mm: tuple[float, float, float] = (-20.5, 33.25, -7.125),
        enhanced: bool = False,
        descending: bool = False,
        one_frame_of_reference: bool = True,
        patient_name: str = "Doe^Jane",
        character_set: str | list[str] | None = "ISO_IR 100",
        intended_use: IntendedUse = IntendedUse.DEMONSTRATION,
    ) -> SegmentationResult:
        directions = ORIENTATIONS[orientation] if isinstance(orientation, str) else orientation
        grid = Grid(directions, shape, spacing_mm, origin_mm, enhanced, descending)
        patient = Patient(patient_name, character_set)
        masks = asymmetric_masks(grid.shape) if masks is None else masks
        number = next(counter)
        folder = parent / f"study{number}"
        study = generate_uid(entropy_srcs=["study", str(number), patient.name])
        frames_of_reference = {
            role: generate_uid(entropy_srcs=[study, "place", "" if one_frame_of_reference else role]) for role in Role
        }
        flat = replace(grid, shape=(4, 9, 8), spacing_mm=(5.0, 2.0, 2.0), enhanced=False)
        sources = tuple(
            _write_series(
                folder / role, role, grid if role is Role.T1CE else flat, patient, study, frames_of_reference[role]
            )
            for role in (Role.ADC, Role.FLAIR, Role.T1CE)
        )
        voxel_ml = sources[2].geometry.voxel_volume_mm3 / 1000
        measurements = tuple(
            LabelMeasurement(
                label=label,
                volume_ml=float(mask.sum()) * voxel_ml,
                lesion_count=2 if mask.sum() > 1 else int(mask.any()),
                adc=ADC_EXAMPLE if label.number < 3 and mask.any() else None,
            )
            for label, mask in zip(PAPER_LABELS, masks, strict=True)
        )
        return SegmentationResult(
            study_instance_uid=study,
            sources=sources,
            alignments=tuple(
                RoleAlignment(role, True, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), IDENTITY, "test")
                for role in (Role.ADC, Role.FLAIR)
            ),
            masks=masks,
            measurements=measurements,
            model=ModelIdentity("phantom-demo", "0.1.0", "ab" * 32, intended_use),
            device="cpu",
        )

    return make


@pytest.fixture
def make_altered(make_result: MakeResult) -> MakeResult:
    """Return a function that makes a result and applies `change(header, number)` to its T1CE files."""

    def alter(change: Callable[[Dataset, int], None], **grid: object) -> SegmentationResult:
        result = make_result(**grid)
        with disable_value_validation():
            for number, instance in enumerate(result.source(Role.T1CE).series.instances):
                header = dcmread(instance.path)
                change(header, number)
                dcmwrite(instance.path, header)
        return result

    return alter


@pytest.fixture(scope="session")
def with_everything() -> Callable[[SegmentationResult], SegmentationResult]:
    """Return a function that adds native masks, a measurable lesion and two pictures, for all kinds of objects."""

    def add(result: SegmentationResult) -> SegmentationResult:
        rng = np.random.default_rng(3)
        native = tuple(
            MasksOnSeries(role, (label,), rng.random((1, *result.source(role).geometry.shape)) < 0.3)
            for role, label in ((Role.FLAIR, FLAIR_HYPERINTENSITY), (Role.ADC, ADC_ABNORMALITY))
        )
        _, rows, columns = result.source(Role.T1CE).geometry.shape
        lesion = LesionDiameters(1, 2, Diameter((0, 1), (rows - 1, 1), 12.5), Diameter((4, 0), (4, columns - 1), 11.0))
        roles = (Role.T1CE, Role.FLAIR, Role.ADC)
        panels = Panels((1, 3), roles, rng.random((3, 2, rows, columns)).astype(np.float32))
        return replace(result, native=native, diameters=(lesion,), panels=panels)

    return add


@pytest.fixture
def write_seg(tmp_path: Path, started: datetime) -> Callable[..., Path]:
    """Return a function that encodes and writes the SEG of a result and returns the path."""
    counter = iter(range(1000))

    def write(result: SegmentationResult, when: datetime = started, on: MasksOnSeries | None = None) -> Path:
        on = on or result.on_reference()
        path = tmp_path / f"seg{next(counter)}.dcm"
        write_dicom(encode_seg(result, on, read_headers(result.source(on.role)), when), path)
        return path

    return write
