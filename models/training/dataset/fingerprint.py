"""Compute the SHA-256 of voxels, cases and data sets, independent of the compression of their files."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from models.training.dataset.manifest import CaseEntry, DatasetSource
from pipeline.volume import Geometry


def image_fingerprint(voxels: NDArray[np.float32]) -> str:
    """Hash the voxels of a channel and nothing else: equal images under two names have equal fingerprints."""
    return hashlib.sha256(f"{voxels.shape}".encode() + _bytes(voxels)).hexdigest()


def case_fingerprint(parts: Iterable[tuple[str, NDArray[np.float32] | NDArray[np.bool_]]], grid: Geometry) -> str:
    """Hash a case: its channels and labels, with the names of their files, and its grid to a thousandth of a mm."""
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
    """Hash a data set: its cases in any order, with patients, splits, voxels and annotators."""
    listed = sorted(
        (case.case_id, case.patient, case.split, case.fingerprint, sorted(case.annotators)) for case in cases
    )
    return hashlib.sha256(json.dumps([source, channels, labels, spacing_mm, listed]).encode()).hexdigest()


def _bytes(voxels: NDArray[np.float32] | NDArray[np.bool_]) -> bytes:
    if voxels.dtype == bool:
        return voxels.tobytes()
    # NaN has many bit patterns; hash one of them.
    return np.where(np.isnan(voxels), np.float32(np.nan), voxels).astype("<f4").tobytes()
