"""Write a synthetic head as a DICOM study: the series to be chosen, distractors, and the ground truth."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from models.labels import PAPER_LABELS, Role
from pipeline.errors import OutputRefused
from pipeline.resample import resample
from pipeline.volume import Geometry, Matrix, Vector, Volume
from plugin.demo.phantom_protocols import SeriesProtocol, localizer_planes, motion_parameters, phantom_protocols

B_VALUE_S_MM2 = 1000.0
_LARGEST_STORED = 4095


class ScannableHead(Protocol):
    """A head that can be scanned on any grid."""

    @property
    def seed(self) -> int:
        """Return the seed from which the head was made."""

    def acquire(self, role: Role, geometry: Geometry, motion: Matrix | None, noise_seed: int) -> Volume:
        """Return a scan with one sequence. `motion` maps the head's world coordinates to the scanner's."""

    def truth(self, geometry: Geometry, motion: Matrix | None = None) -> NDArray[np.bool_]:
        """Return the true masks, (labels, slices, rows, columns), in the order of `models.labels.PAPER_LABELS`."""


@dataclass(frozen=True, slots=True)
class PhantomSeries:
    """One series of a written phantom study."""

    name: str
    description: str
    role: Role | None
    """The role for which a node should choose it; None for distractors."""
    series_instance_uid: str
    folder: Path
    image_count: int


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """A written phantom study and its ground truth."""

    study_instance_uid: str
    dicom_folder: Path
    series: tuple[PhantomSeries, ...]
    truth_paths: tuple[tuple[Role, Path], ...]
    """Bit masks on the native grids: 1 enhancing tumour, 2 ADC abnormality, 4 FLAIR hyperintensity."""
    volumes_ml: tuple[tuple[str, float], ...]
    """(label name, true volume on the grid on which the label is defined)."""


@dataclass(frozen=True, slots=True)
class _Image:
    """One slice, with the attributes in which the images of a series differ."""

    pixels: NDArray[np.uint16]
    position_mm: Vector
    row_direction: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    spacing_mm: Vector
    b_value: float | None = None


_Scans = Mapping[str, Volume]
"""The acquired volumes by name of their series; the other series are computed from these."""


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def write_phantom(head: ScannableHead, out: Path, seed: int, variant: str = "") -> PhantomStudy:
    """Write OUT/dicom/<series>/IM0001.dcm..., OUT/truth_{t1ce,flair,adc}.nii.gz and OUT/truth.json, in that order.

    The study has nine series, named as on a Siemens scanner: localizer, T1, T2, FLAIR (axial, tilted), diffusion trace,
    ADC, T1CE (sagittal 3D, 1 mm), a reformat of it, and a subtraction. The patient moves a little between series. Equal
    heads and seeds give equal files. Raises OutputRefused where OUT already holds a study or cannot be written.
    """
    dicom_folder = out / "dicom"
    if any(path != dicom_folder for path in _entries(out)) or _entries(dicom_folder):
        raise OutputRefused(f"{out} already holds files. Choose an empty folder for the phantom.")
    study_uid = _uid(seed, variant, "study")
    frame_uid = _uid(seed, variant, "frame of reference")
    protocols = phantom_protocols(seed, frame_uid)
    try:
        dicom_folder.mkdir(parents=True, exist_ok=True)
        scans = _acquire(head, protocols)
        series = tuple(
            _write_series(scans, protocol, number, dicom_folder, study_uid, (seed, variant))
            for number, protocol in enumerate(protocols, 1)
        )
        wanted = {protocol.role: protocol for protocol in protocols if protocol.wanted}
        truths = {role: head.truth(protocol.geometry, protocol.motion) for role, protocol in wanted.items()}
        paths = tuple(
            (role, _write_truth(truths[role], wanted[role].geometry, out / f"truth_{role.value.lower()}.nii.gz"))
            for role in (Role.T1CE, Role.FLAIR, Role.ADC)
        )
        volumes = tuple(
            (label.name, _volume_ml(truths[label.defined_on][row], wanted[label.defined_on].geometry))
            for row, label in enumerate(PAPER_LABELS)
        )
        study = PhantomStudy(study_uid, dicom_folder, series, paths, volumes)
        _write_json(study, wanted, seed, variant, out / "truth.json")
    except OSError as exc:
        raise OutputRefused(
            f"The phantom cannot be written to {out}: {exc.strerror or exc}. Free some space or choose another folder."
        ) from exc
    return study


def _uid(seed: int, variant: str, *parts: str) -> str:
    return str(generate_uid(entropy_srcs=["glionode phantom", str(seed), variant, *parts]))


def _write_series(
    scans: _Scans, protocol: SeriesProtocol, number: int, folder: Path, study_uid: str, key: tuple[int, str]
) -> PhantomSeries:
    seed, variant = key
    series_folder = folder / f"{number:02d}_{protocol.name}"
    series_folder.mkdir(parents=True)
    series_uid = _uid(seed, variant, "series", protocol.name)
    header = _series_header(protocol, number, study_uid, series_uid, seed)
    count = 0
    for count, image in enumerate(_images(scans, protocol), 1):
        dataset = _instance(header, protocol, image, count, _uid(seed, variant, "image", protocol.name, str(count)))
        dcmwrite(series_folder / f"IM{count:04d}.dcm", dataset, enforce_file_format=True)
    return PhantomSeries(
        protocol.name,
        protocol.description,
        protocol.role if protocol.wanted else None,
        series_uid,
        series_folder,
        count,
    )


def _images(scans: _Scans, protocol: SeriesProtocol) -> Iterator[_Image]:
    """Yield the slices of a series in the order of their instance numbers."""
    if protocol.name == "loc":
        for plane in localizer_planes(protocol.geometry.frame_of_reference_uid):
            yield from _slices(_reformatted(scans["t1"], plane))
    elif protocol.name == "trace":
        # T2-weighted images without diffusion weighting, then the same weighted by the ADC map.
        base = _reformatted(scans["t2"], protocol.geometry)
        attenuation = np.exp(-B_VALUE_S_MM2 * 1e-6 * np.nan_to_num(scans["adc"].pixels))
        yield from _slices(base, 0.0)
        yield from _slices(Volume(base.pixels * attenuation, base.geometry), B_VALUE_S_MM2)
    elif protocol.name == "mpr":
        yield from _slices(_reformatted(scans["t1ce"], protocol.geometry))
    elif protocol.name == "sub":
        before = scans["t1"]
        after = _reformatted(scans["t1ce"], before.geometry)
        yield from _slices(Volume(after.pixels - before.pixels, before.geometry))
    else:
        yield from _slices(scans[protocol.name])


def _acquire(head: ScannableHead, protocols: tuple[SeriesProtocol, ...]) -> _Scans:
    return {
        protocol.name: head.acquire(protocol.role, protocol.geometry, protocol.motion, number)
        for number, protocol in enumerate(protocols)
        if protocol.name in ("t1", "t2", "flair", "adc", "t1ce")
    }


def _reformatted(volume: Volume, geometry: Geometry) -> Volume:
    """Resample a volume to another grid in scanner coordinates, as a scanner's reformat does; 0 outside."""
    pixels = resample(torch.from_numpy(volume.pixels)[None], volume.geometry, geometry)[0].numpy()
    return Volume(np.nan_to_num(pixels).astype(np.float32), geometry)


def _slices(volume: Volume, b_value: float | None = None) -> Iterator[_Image]:
    geometry = volume.geometry
    stored = np.clip(np.rint(np.nan_to_num(volume.pixels)), 0, _LARGEST_STORED).astype("<u2")
    spacing = geometry.spacing_mm
    rows, columns = np.array(geometry.column_step_mm) / spacing[2], np.array(geometry.row_step_mm) / spacing[1]
    for number, pixels in enumerate(stored):
        x, y, z = np.array(geometry.origin_mm) + number * np.array(geometry.slice_step_mm)
        yield _Image(pixels, (float(x), float(y), float(z)), rows, columns, spacing, b_value)


def _series_header(protocol: SeriesProtocol, number: int, study_uid: str, series_uid: str, seed: int) -> Dataset:
    """Return the attributes that all images of a series share, with a patient that is obviously synthetic."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.ImageType = list(protocol.image_type)
    header.SOPClassUID = MRImageStorage
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = "20240101"
    header.StudyTime = "100000"
    header.SeriesTime = header.AcquisitionTime = header.ContentTime = f"10{number:02d}00"
    header.AccessionNumber = ""
    header.Modality = "MR"
    header.Manufacturer = "GLIONODE PHANTOM"
    header.ReferringPhysicianName = ""
    header.StudyDescription = "Synthetic head, no patient"
    header.SeriesDescription = header.ProtocolName = protocol.description
    header.ManufacturerModelName = "glionode phantom"
    header.PatientName = "PHANTOM^GLIONODE"
    header.PatientID = f"GLIONODE-{seed}"
    header.PatientBirthDate = header.PatientSex = ""
    if protocol.contrast:
        header.ContrastBolusAgent = "GADOLINIUM"
    header.BodyPartExamined = "HEAD"
    header.ScanningSequence = list(protocol.scanning_sequence)
    header.SequenceVariant = ["SK", "SP"]
    header.ScanOptions = ""
    header.MRAcquisitionType = protocol.acquisition_type
    header.SliceThickness = protocol.slice_thickness_mm
    header.RepetitionTime = protocol.timing.repetition_time_ms
    header.EchoTime = protocol.timing.echo_time_ms
    if protocol.timing.inversion_time_ms is not None:
        header.InversionTime = protocol.timing.inversion_time_ms
    header.MagneticFieldStrength = 3
    header.EchoTrainLength = 1
    header.FlipAngle = protocol.timing.flip_angle_deg
    header.SoftwareVersions = "glionode"
    header.PatientPosition = "HFS"
    header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, series_uid
    header.StudyID = "1"
    header.SeriesNumber = number
    header.AcquisitionNumber = 1
    header.FrameOfReferenceUID = protocol.geometry.frame_of_reference_uid
    header.PositionReferenceIndicator = ""
    return header


def _instance(header: Dataset, protocol: SeriesProtocol, image: _Image, number: int, uid: str) -> Dataset:
    dataset = Dataset(header)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = uid
    dataset.InstanceNumber = number
    if image.b_value is not None:
        dataset.DiffusionBValue = image.b_value
    dataset.SpacingBetweenSlices = _decimal(image.spacing_mm[0])
    dataset.ImagePositionPatient = [_decimal(value) for value in image.position_mm]
    dataset.ImageOrientationPatient = [
        _decimal(float(value)) for value in (*image.row_direction, *image.column_direction)
    ]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.pixels.shape
    dataset.PixelSpacing = [_decimal(image.spacing_mm[1]), _decimal(image.spacing_mm[2])]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    largest = max(1, int(image.pixels.max()))
    dataset.WindowCenter, dataset.WindowWidth = largest // 2, largest
    if protocol.role is Role.ADC:
        dataset.WindowCenter, dataset.WindowWidth = 1400, 2800
    dataset.PixelData = image.pixels.tobytes()
    return dataset


def _decimal(value: float) -> str:
    """Return a decimal string of at most 16 characters (PS3.5 6.2, VR DS)."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text[:16]


def _write_truth(masks: NDArray[np.bool_], geometry: Geometry, path: Path) -> Path:
    """Write the labels as a bit mask in NIfTI; SimpleITK converts LPS to NIfTI's RAS."""
    bits = sum(masks[row].astype(np.uint8) << row for row in range(len(PAPER_LABELS)))
    image = sitk.GetImageFromArray(np.asarray(bits, np.uint8))
    slices, rows, columns = geometry.spacing_mm
    image.SetOrigin(geometry.origin_mm)
    image.SetSpacing((columns, rows, slices))
    directions = geometry.affine[:3, [2, 1, 0]] / (columns, rows, slices)
    image.SetDirection(directions.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as exc:
        raise OutputRefused(f"{path} cannot be written. Free some space or choose another folder.") from exc
    return path


def _volume_ml(mask: NDArray[np.bool_], geometry: Geometry) -> float:
    return float(mask.sum()) * geometry.voxel_volume_mm3 / 1000.0


def _write_json(study: PhantomStudy, wanted: dict[Role, SeriesProtocol], seed: int, variant: str, path: Path) -> None:
    volumes = dict(zip(("enhancing", "adc", "flair"), (volume for _, volume in study.volumes_ml), strict=True))
    motions = {
        f"motion_{role.value.lower()}": list(motion_parameters(protocol.motion))
        for role, protocol in wanted.items()
        if protocol.motion is not None
    }
    document = {
        "study_uid": study.study_instance_uid,
        "variant": variant,
        "vendor": "phantom",
        "seed": seed,
        "series": {series.name: series.description for series in study.series},
        "wanted": {role.value: wanted[role].description for role in (Role.T1CE, Role.FLAIR, Role.ADC)},
        "volume_ml": volumes,
        **motions,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
