"""Write small MR series for tests; the value of each pixel encodes its world coordinates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from pipeline.volume import Geometry
from tests.support.tiny_package import make_package

__all__ = ["make_package"]

Change = Callable[[Dataset, int], None]


def landscape(geometry: Geometry) -> NDArray[np.float64]:
    """Return the values of the images: a linear function of world coordinates, so that any flip or shift is noticed."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"), axis=-1)
    world = index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return 4000 + world @ np.array([3.0, 5.0, 7.0])


def _uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=["glionode test", *(str(part) for part in parts)]))


@dataclass
class SeriesMaker:
    """Writes series to a folder; equal names give equal UIDs."""

    folder: Path
    study: str = "study"
    syntax: UID = ExplicitVRLittleEndian
    """Transfer syntax of the files that are written next."""
    defaults: dict[str, Any] = field(default_factory=dict)

    def header(self, series: str, **attributes: Any) -> Dataset:
        """Return the header that all images of a series share."""
        header = Dataset()
        header.SOPClassUID = MRImageStorage
        header.Modality = "MR"
        header.Manufacturer = "TEST"
        header.PatientName, header.PatientID = "NOBODY^SECRET", "SECRET-ID"
        header.StudyInstanceUID, header.SeriesInstanceUID = _uid(self.study), _uid(self.study, series)
        header.SeriesNumber = 1
        header.SeriesDescription = series
        header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        header.FrameOfReferenceUID = _uid(self.study, "frame of reference")
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
        for name, value in (self.defaults | attributes).items():
            setattr(header, name, value)
        return header

    def classic(
        self,
        geometry: Geometry,
        series: str = "series",
        *,
        pixels: NDArray[Any] | None = None,
        numbers: tuple[int, ...] | None = None,
        first_file: int = 1,
        change: Change | None = None,
        **attributes: Any,
    ) -> list[Path]:
        """Write one file per slice. `numbers` are the instance numbers; `change` edits the data set of a slice last."""
        values = np.rint(landscape(geometry)) if pixels is None else pixels
        paths = []
        for number in range(geometry.shape[0]):
            dataset = self.header(series, **attributes)
            dataset.InstanceNumber = numbers[number] if numbers is not None else first_file + number
            dataset.SOPInstanceUID = _uid(self.study, series, first_file + number)
            _place(dataset, geometry, number)
            dataset.Rows, dataset.Columns = geometry.shape[1:]
            dataset.PixelSpacing = _decimals(geometry.spacing_mm[1:])
            dataset.PixelData = values[number].astype("<i2" if dataset.PixelRepresentation else "<u2").tobytes()
            if change is not None:
                change(dataset, number)
            paths.append(self.write(dataset, f"{series}_{first_file + number:04d}.dcm"))
        return paths

    def enhanced(
        self,
        geometry: Geometry,
        series: str = "enhanced",
        *,
        shuffle: int | None = None,
        shared_slope: float | None = None,
        frame_slope: float | None = None,
        values: NDArray[Any] | None = None,
        **attributes: Any,
    ) -> Path:
        """Write one multi-frame file, frames in any order; positions and rescale are in functional groups only."""
        dataset = self.header(series, **{"SOPClassUID": EnhancedMRImageStorage} | attributes)
        dataset.SOPInstanceUID = _uid(self.study, series, 1)
        dataset.InstanceNumber = 1
        dataset.NumberOfFrames = geometry.shape[0]
        dataset.Rows, dataset.Columns = geometry.shape[1:]
        order = np.arange(geometry.shape[0])
        if shuffle is not None:
            np.random.default_rng(shuffle).shuffle(order)
        shared, measures, orientation = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = _decimals(geometry.spacing_mm[1:])
        orientation.ImageOrientationPatient = _orientation(geometry)
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
        frames = [_frame_groups(geometry, int(number)) for number in order]
        for groups, slope in ((shared, shared_slope), *((frame, frame_slope) for frame in frames)):
            if slope is not None:
                transformation = Dataset()
                transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = (
                    slope,
                    0,
                    "US",
                )
                groups.PixelValueTransformationSequence = [transformation]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = frames
        pixels = np.rint(landscape(geometry)) if values is None else values
        dataset.PixelData = pixels[order].astype("<u2").tobytes()
        return self.write(dataset, f"{series}.dcm")

    def write(self, dataset: Dataset, name: str) -> Path:
        """Write a file in the transfer syntax `self.syntax`."""
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if self.syntax.is_compressed and not self.syntax.is_deflated:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(self.syntax, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = self.syntax
        if self.syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        dcmwrite(path, dataset, enforce_file_format=True)
        return path


def _frame_groups(geometry: Geometry, number: int) -> Dataset:
    place, position, content = Dataset(), Dataset(), Dataset()
    _place(place, geometry, number)
    position.ImagePositionPatient = place.ImagePositionPatient
    content.InStackPositionNumber = number + 1
    groups = Dataset()
    groups.PlanePositionSequence, groups.FrameContentSequence = [position], [content]
    return groups


def _place(dataset: Dataset, geometry: Geometry, number: int) -> None:
    dataset.ImagePositionPatient = _decimals(np.array(geometry.origin_mm) + number * np.array(geometry.slice_step_mm))
    dataset.ImageOrientationPatient = _orientation(geometry)


def _orientation(geometry: Geometry) -> list[str]:
    _, rows, columns = geometry.spacing_mm
    return _decimals([*(np.array(geometry.column_step_mm) / columns), *(np.array(geometry.row_step_mm) / rows)])


def _decimals(values: Any) -> list[str]:
    # A DS has at most 16 characters (PS3.5 6.2).
    return [f"{value:.12f}"[:16] for value in values]


@pytest.fixture
def make(tmp_path: Path) -> SeriesMaker:
    """Return a maker of series in a folder of this test."""
    return SeriesMaker(tmp_path / "dicom")


@pytest.fixture
def box() -> Geometry:
    """Return a small axial grid."""
    return Geometry.axial((6, 36, 40), (3.0, 1.5, 1.25), (4.0, -7.0, 11.0), _uid("study", "frame of reference"))
