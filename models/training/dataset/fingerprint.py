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
    """Hash how the brighter half of an image (slices, rows, columns) is spread over its planes.

    Equal for images that differ in the order and direction of their axes, in the air around the head where that has one
    value, and in the scale of their intensities, so that one scan is found under two names, or in two data sets. Where
    intensities are fractions, rounding after a change of scale may move the median by a voxel and so change the hash.
    Files of one scan that were resampled to other voxels are not found.
    """
    inside = np.isfinite(voxels)
    background = _background(voxels)
    if background is not None:
        inside &= voxels != background
    known = voxels[inside]
    if known.size:
        # The middle value itself, not the mean of two: the same voxels are above it whatever the scale.
        inside &= voxels >= np.partition(known, known.size // 2)[known.size // 2]
    profiles = []
    for axis in range(3):
        planes = np.trim_zeros(inside.sum(axis=tuple(other for other in range(3) if other != axis))).tolist()
        profiles.append(min(planes, planes[::-1]))
    return hashlib.sha256(json.dumps(sorted(profiles)).encode()).hexdigest()


def _background(voxels: NDArray[np.float32]) -> np.float32 | None:
    """Return the value of most voxels on the faces of an image, as around a stripped brain; None if there is none."""
    faces = np.concatenate([np.take(voxels, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    values, counts = np.unique(faces[np.isfinite(faces)], return_counts=True)
    return values[counts.argmax()] if len(values) and 2 * counts.max() > counts.sum() else None


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
