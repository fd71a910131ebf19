"""SHA-256 of what a case and a data set hold: of voxels and places, whatever the compression of the files."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from models.training.dataset.manifest import CaseEntry, DatasetSource
from pipeline.volume import Geometry


def image_fingerprint(voxels: NDArray[np.float32]) -> str:
    """Of a channel's values alone: equal images under two names have it in common."""
    return hashlib.sha256(f"{voxels.shape}".encode() + _bytes(voxels)).hexdigest()


def case_fingerprint(parts: Iterable[tuple[str, NDArray[np.float32] | NDArray[np.bool_]]], grid: Geometry) -> str:
    """Of all channels and labels of a case by the names of their files, and of the grid (to a thousandth of a mm)."""
    place = np.rint(grid.affine * 1000).astype(int).tolist()
    digest = hashlib.sha256(json.dumps([grid.shape, place]).encode())
    for name, voxels in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{name}\n".encode())
        digest.update(_bytes(voxels))
    return digest.hexdigest()


def dataset_fingerprint(
    source: DatasetSource,
    channels: tuple[Role, ...],
    labels: tuple[str, ...],
    spacing_mm: float,
    cases: Iterable[CaseEntry],
) -> str:
    """Of a whole data set: cases with their patients, splits, voxels and who drew what, in any order."""
    listed = sorted(
        (case.case_id, case.patient, case.split, case.fingerprint, sorted(case.annotators)) for case in cases
    )
    return hashlib.sha256(json.dumps([source, channels, labels, spacing_mm, listed]).encode()).hexdigest()


def _bytes(voxels: NDArray[np.float32] | NDArray[np.bool_]) -> bytes:
    if voxels.dtype == bool:
        return voxels.tobytes()
    # There are many NaN, of which one is enough.
    return np.where(np.isnan(voxels), np.float32(np.nan), voxels).astype("<f4").tobytes()
