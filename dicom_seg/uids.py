"""Derive UIDs from what an object is made of, so that the same inputs and model give the same UIDs."""

import hashlib
import uuid
from collections.abc import Sequence

from models.labels import Label
from pipeline.result import ModelIdentity, SegmentationResult, SourceSeries

_NAMESPACE = uuid.UUID("7841dd9c-f64b-400d-a2a7-f9476a0ea561")
"""Belongs to this project; changing it would change every UID that the node derives."""


def derive_uid(*parts: str) -> str:
    """Return a UID from a name-based UUID (RFC 4122 version 5) under the root 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}"


def result_uid(result: SegmentationResult, purpose: str) -> str:
    """Return the UID of an object made from a result, by its study, source images, model and `purpose`.

    A retry of the same work therefore replaces its earlier objects instead of adding a second copy.
    """
    return derive_uid(purpose, result.study_instance_uid, images_sha256(result.sources), result.model.sha256)


def images_sha256(sources: Sequence[SourceSeries]) -> str:
    """Return a digest of the images of each role; together with study and model it identifies a result."""
    images = hashlib.sha256()
    for source in sorted(sources, key=lambda source: source.role):
        for frame in source.frames:
            images.update(f"{source.role} {frame.sop_instance_uid} {frame.number}\n".encode())
    return images.hexdigest()


def tracking_uid(result: SegmentationResult, label: Label) -> str:
    """Return the tracking UID (0062,0021; 112040 DCM) of a label, equal in all objects of one study and model."""
    return derive_uid("tracking", result.study_instance_uid, result.model.sha256, label.name)


def lesion_tracking_uid(result: SegmentationResult, label: Label, lesion: int) -> str:
    """Return the tracking UID (112040 DCM) of one lesion of a label, by its number from 1."""
    return derive_uid("tracking lesion", result.study_instance_uid, result.model.sha256, label.name, str(lesion))


def device_uid(model: ModelIdentity) -> str:
    """Return the device UID (0018,1002) of the algorithm: another model is another device (IHE RAD AIR)."""
    return derive_uid("device", model.sha256)
