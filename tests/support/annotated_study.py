"""Write a small study of a synthetic head on three different grids, with annotations in several file formats."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from models.labels import PAPER_LABELS, Label, Role
from models.training.synthetic.head import SyntheticHead
from pipeline.alignment import as_matrix
from pipeline.volume import Geometry, Matrix

SECRET = "SECRETxPHI"
"""Occurs in every text of the headers; no data set may contain it."""
_HEADERS = {
    Role.T1CE: {
        "SeriesDescription": "T1 MPRAGE sag post Gd",
        "EchoTime": 3.0,
        "RepetitionTime": 1900.0,
        "InversionTime": 900.0,
        "ScanningSequence": "GR",
        "ContrastBolusAgent": "Gadovist",
        "MRAcquisitionType": "3D",
    },
    Role.FLAIR: {
        "SeriesDescription": "T2 FLAIR tra",
        "EchoTime": 120.0,
        "RepetitionTime": 9000.0,
        "InversionTime": 2500.0,
        "ScanningSequence": "SE",
        "MRAcquisitionType": "2D",
    },
    Role.ADC: {
        "SeriesDescription": "ep2d_diff_ADC",
        "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
        "EchoTime": 80.0,
        "RepetitionTime": 6000.0,
        "ScanningSequence": "EP",
        "MRAcquisitionType": "2D",
    },
}


def _tilted(degrees: float) -> np.ndarray:
    axial = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
    return Rotation.from_euler("x", degrees, degrees=True).as_matrix() @ axial


def _geometry(directions: np.ndarray, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = np.array((0.0, -4.0, 5.0)) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry.from_affine(affine, shape, "2.25.4711")


GEOMETRIES = {
    # Slices from right to left, rows downwards, columns backwards.
    Role.T1CE: _geometry(np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float), (60, 80, 70), (2.8, 2.6, 2.5)),
    Role.FLAIR: _geometry(_tilted(-15), (36, 84, 76), (5.0, 2.5, 2.7)),
    Role.ADC: _geometry(_tilted(0), (38, 66, 60), (4.5, 3.25, 3.0)),
}


def moved(degrees: float, millimetres: tuple[float, float, float]) -> Matrix:
    """Return the 4 x 4 matrix of a rotation about the z axis and a translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = millimetres
    return as_matrix(matrix)


@dataclass(frozen=True)
class WrittenStudy:
    """A study on disk, with the true labels on each of its series."""

    folder: Path
    study: str
    patient: str
    truth: dict[Role, np.ndarray]
    """Masks (labels, slices, rows, columns) on the grid of each series."""

    def files(self, role: Role) -> list[Path]:
        return sorted((self.folder / role).glob("*.dcm"))

    def mask(self, label: Label, role: Role | None = None) -> np.ndarray:
        return self.truth[role or label.defined_on][PAPER_LABELS.index(label)]


def write_study(
    folder: Path, head: SyntheticHead, motions: dict[Role, Matrix], number: int = 1, patient: str = ""
) -> WrittenStudy:
    """Write the three series of a head, which moves between them by `motions`."""
    study = generate_uid(entropy_srcs=["drawn study", str(number), str(head.seed)])
    patient = patient or f"{SECRET}-{number}"
    truth = {}
    for place, (role, geometry) in enumerate(GEOMETRIES.items(), 1):
        volume = head.acquire(role, geometry, motions.get(role), place)
        truth[role] = head.truth(geometry, motions.get(role))
        series = generate_uid(entropy_srcs=[study, role])
        for index, pixels in enumerate(np.clip(np.rint(np.nan_to_num(volume.pixels)), 0, 4095).astype("<u2")):
            instance = _instance(role, geometry, index, pixels)
            instance.PatientID, instance.PatientName = patient, f"{SECRET}^NAME"
            instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
            instance.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
            instance.SeriesNumber = place
            instance.file_meta = FileMetaDataset()
            instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
            instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
            (folder / role).mkdir(parents=True, exist_ok=True)
            dcmwrite(folder / role / f"{index:04d}.dcm", instance, enforce_file_format=True)
    return WrittenStudy(folder, study, patient, truth)


def _instance(role: Role, geometry: Geometry, index: int, pixels: np.ndarray) -> Dataset:
    instance = Dataset()
    instance.SOPClassUID, instance.Modality, instance.Manufacturer = MRImageStorage, "MR", "SIEMENS"
    instance.PatientBirthDate, instance.PatientSex, instance.PatientComments = "19600102", "F", f"{SECRET} comment"
    instance.StudyDate = instance.SeriesDate = instance.AcquisitionDate = "20240304"
    instance.StudyTime = instance.AcquisitionTime = "101112"
    instance.StudyID, instance.AccessionNumber, instance.ReferringPhysicianName = "1", SECRET, ""
    instance.InstitutionName = f"{SECRET} hospital"
    instance.BodyPartExamined = "BRAIN"
    instance.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    instance.InstanceNumber = index + 1
    instance.FrameOfReferenceUID, instance.PositionReferenceIndicator = geometry.frame_of_reference_uid, ""
    thickness, rows_mm, columns_mm = geometry.spacing_mm
    position = geometry.affine @ [index, 0, 0, 1]
    instance.ImagePositionPatient = [f"{value:.8f}"[:16] for value in position[:3]]
    directions = (*np.array(geometry.column_step_mm) / columns_mm, *np.array(geometry.row_step_mm) / rows_mm)
    instance.ImageOrientationPatient = [f"{value:.10f}"[:16] for value in directions]
    instance.PixelSpacing = [f"{rows_mm:.8f}", f"{columns_mm:.8f}"]
    instance.SliceThickness = instance.SpacingBetweenSlices = f"{thickness:.8f}"
    instance.Rows, instance.Columns = pixels.shape
    instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 12, 11, 0
    for name, value in _HEADERS[role].items():
        setattr(instance, name, value)
    instance.PixelData = pixels.tobytes()
    return instance


def itk_image(voxels: np.ndarray, geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    slices, rows, columns = geometry.spacing_mm
    image.SetSpacing((columns, rows, slices))
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection((geometry.affine[:3, [2, 1, 0]] / (columns, rows, slices)).ravel().tolist())
    return image


def write_nifti_maps(study: WrittenStudy, label: Label) -> None:
    """Write a NIfTI label map of one label on the series that it is defined on, with its axes in RAS order.

    The file name of a map of ones contains the label, because its voxels do not name it.
    """
    voxels = study.mask(label).astype(np.uint8) * label.number
    turned = sitk.DICOMOrient(itk_image(voxels, GEOMETRIES[label.defined_on]), "RAS")
    sitk.WriteImage(turned, str(study.folder / f"reader1_{'et_' * (label.number == 1)}map{label.number}.nii.gz"))


def write_nrrd_mask(study: WrittenStudy, label: Label) -> None:
    """Write a binary NRRD mask, cropped to the lesion; its file name contains the role."""
    image = itk_image(study.mask(label).astype(np.uint8), GEOMETRIES[label.defined_on])
    where = np.argwhere(study.mask(label))
    low, high = (where.min(axis=0) - 1)[::-1].tolist(), (where.max(axis=0) + 2)[::-1].tolist()
    cut = image[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    sitk.WriteImage(cut, str(study.folder / f"{label.defined_on.lower()} mask.nrrd"))


def write_slicer_segmentation(
    study: WrittenStudy, role: Role, segments: dict[str, np.ndarray], name: str = "Segmentation"
) -> Path:
    """Write a segmentation as 3D Slicer saves it: overlapping segments in layers, cropped to the segments.

    https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
    """
    geometry = GEOMETRIES[role]
    anything = np.logical_or.reduce(list(segments.values()))
    where = np.argwhere(anything)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    cut = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    layers = np.stack([mask[cut] for mask in segments.values()], axis=-1).astype(np.uint8)
    origin = geometry.affine @ [*low, 1]
    columns, rows, slices = (geometry.affine[:3, axis] for axis in (2, 1, 0))

    def vector(values: np.ndarray) -> str:
        return f"({','.join(repr(float(value)) for value in values)})"

    sizes = " ".join(str(size) for size in (len(segments), *reversed(layers.shape[:3])))
    header = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: none {vector(columns)} {vector(rows)} {vector(slices)}",
        "kinds: list domain domain domain",
        "encoding: raw",
        f"space origin: {vector(origin[:3])}",
    ]
    extent = f"0 {layers.shape[2] - 1} 0 {layers.shape[1] - 1} 0 {layers.shape[0] - 1}"
    offset = " ".join(str(value) for value in low[::-1])
    for number, text in enumerate(segments):
        header += [
            f"Segment{number}_Color:=0.9 0.2 0.2",
            f"Segment{number}_Extent:={extent}",
            f"Segment{number}_ID:=Segment_{number + 1}",
            f"Segment{number}_LabelValue:=1",
            f"Segment{number}_Layer:={number}",
            f"Segment{number}_Name:={text}",
        ]
    header += [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        f"Segmentation_ReferenceImageExtentOffset:={offset}",
    ]
    path = study.folder / f"{name}.seg.nrrd"
    path.write_bytes("\n".join(header).encode() + b"\n\n" + layers.tobytes())
    return path


def write_dcmqi_seg(
    program: Callable[[str], str], study: WrittenStudy, label: Label, segment_label: str, work: Path
) -> Path:
    """Write a SEG with one segment, on the series that the label is defined on, with dcmqi."""
    work.mkdir(parents=True, exist_ok=True)
    image = itk_image(study.mask(label).astype(np.uint8), GEOMETRIES[label.defined_on])
    sitk.WriteImage(image, str(work / "mask.nrrd"))

    def code(value: str, scheme: str, meaning: str) -> dict[str, str]:
        return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}

    description = {
        "ContentCreatorName": "Reader1",
        "ClinicalTrialSeriesID": "Session1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [
            [
                {
                    "labelID": 1,
                    "SegmentLabel": segment_label,
                    "SegmentDescription": "drawn",
                    "SegmentAlgorithmType": "MANUAL",
                    "SegmentedPropertyCategoryCodeSequence": code(
                        "49755003", "SCT", "Morphologically Altered Structure"
                    ),
                    "SegmentedPropertyTypeCodeSequence": code("52988006", "SCT", "Lesion"),
                    "recommendedDisplayRGBValue": [230, 60, 50],
                }
            ]
        ],
    }
    (work / "meta.json").write_text(json.dumps(description))
    path = study.folder / f"dcmqi_{label.name}.dcm"
    arguments = [
        *("--inputImageList", work / "mask.nrrd", "--inputDICOMDirectory", study.folder / label.defined_on),
        *("--inputMetadata", work / "meta.json", "--outputDICOM", path, "--skip"),
    ]
    subprocess.run([program("itkimage2segimage"), *map(str, arguments)], check=True, capture_output=True)
    return path


def write_highdicom_seg(
    study: WrittenStudy,
    role: Role,
    segments: dict[str, np.ndarray],
    kind: str = "BINARY",
    **attributes: str,
) -> Path:
    """Write a SEG on one of the series with highdicom, with the attributes of another program than the node."""
    headers = [dcmread(path) for path in study.files(role)]
    order = np.argsort([float(header.InstanceNumber) for header in headers])
    voxels = np.stack(list(segments.values()), axis=-1)
    if kind == "FRACTIONAL":
        voxels = voxels.astype(np.float32)
    elif kind == "LABELMAP":
        voxels = (voxels * np.arange(1, len(segments) + 1)).max(axis=-1).astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=[headers[index] for index in order],
        pixel_array=voxels,
        transfer_syntax_uid=RLELossless if kind == "LABELMAP" else ExplicitVRLittleEndian,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                number,
                name,
                codes.SCT.MorphologicallyAbnormalStructure,
                codes.SCT.Lesion,
                hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, name in enumerate(segments, 1)
        ],
        series_instance_uid=generate_uid(),
        series_number=77,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reading room",
        manufacturer_model_name="Pencil",
        software_versions="1",
        device_serial_number="1",
    )
    for name, value in attributes.items():
        setattr(seg, name, value)
    path = study.folder / f"seg_{seg.SOPInstanceUID}.dcm"
    seg.save_as(path)
    return path


def in_folder(study: WrittenStudy, folder: Path) -> WrittenStudy:
    """Hard-link the files of a study into another folder, to which a test may add."""
    for role in GEOMETRIES:
        (folder / role).mkdir(parents=True)
        for path in study.files(role):
            (folder / role / path.name).hardlink_to(path)
    return replace(study, folder=folder)


def renamed(study: WrittenStudy, folder: Path, uid: str) -> WrittenStudy:
    """Write the same images under other UIDs, as another study of the same patient."""
    for role in GEOMETRIES:
        (folder / role).mkdir(parents=True)
        for number, path in enumerate(study.files(role)):
            instance = dcmread(path)
            instance.StudyInstanceUID = uid
            instance.SeriesInstanceUID = f"{uid}.{instance.SeriesNumber}"
            instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = (
                f"{instance.SeriesInstanceUID}.{number + 1}"
            )
            instance.save_as(folder / role / path.name)
    return replace(study, folder=folder, study=uid)
