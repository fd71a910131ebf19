"""UIDs that follow from what an object is made of: the same inputs and model give the same UIDs."""

import hashlib
import uuid
from collections.abc import Sequence

from models.labels import Label
from pipeline.result import ModelIdentity, SegmentationResult, SourceSeries

_NAMESPACE = uuid.UUID("7841dd9c-f64b-400d-a2a7-f9476a0ea561")
"""Ours alone; changing it would change every UID that the node ever wrote."""


def derive_uid(*parts: str) -> str:
    """A UID from a name-based UUID (RFC 4122 version 5) under the root 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}"


def result_uid(result: SegmentationResult, purpose: str) -> str:
    """UID of something made from this result: from its study, its sources' images, its model, and the purpose.

    A retry of the same work therefore replaces what it wrote before instead of adding a second copy.
    """
    return derive_uid(purpose, result.study_instance_uid, images_sha256(result.sources), result.model.sha256)


def images_sha256(sources: Sequence[SourceSeries]) -> str:
    """What a result is computed from: the images of each role. With study and model it stands for the result."""
    images = hashlib.sha256()
    for source in sorted(sources, key=lambda source: source.role):
        for frame in source.frames:
            images.update(f"{source.role} {frame.sop_instance_uid} {frame.number}\n".encode())
    return images.hexdigest()


def tracking_uid(result: SegmentationResult, label: Label) -> str:
    """(0062,0021) and 112040 DCM of a label: the same for every object of one study and model."""
    return derive_uid("tracking", result.study_instance_uid, result.model.sha256, label.name)


def lesion_tracking_uid(result: SegmentationResult, label: Label, lesion: int) -> str:
    """112040 DCM of one lesion of a label, by its number from 1: the same for every object of one study and model."""
    return derive_uid("tracking lesion", result.study_instance_uid, result.model.sha256, label.name, str(lesion))


def device_uid(model: ModelIdentity) -> str:
    """(0018,1002) of the algorithm: another model is another device (IHE RAD AIR)."""
    return derive_uid("device", model.sha256)
