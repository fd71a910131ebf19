"""Derive UIDs from what an object is made of, so that a UID stands for one content, and one content has one UID."""

import hashlib
import uuid
from collections.abc import Sequence

from models.labels import Label
from models.software_version import software_version
from pipeline.identity import agreed_identity
from pipeline.result import ModelIdentity, SegmentationResult, SourceSeries
from pipeline.study import Instance

_NAMESPACE = uuid.UUID("7841dd9c-f64b-400d-a2a7-f9476a0ea561")
"""Belongs to this project; changing it would change every UID that the node derives."""


def derive_uid(*parts: str) -> str:
    """Return a UID from a name-based UUID (RFC 4122 version 5) under the root 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}"


def result_uid(result: SegmentationResult, purpose: str) -> str:
    """Return the UID of a part of a result, by study, source images, patient, model package, software and `purpose`.

    The UIDs of instances and series are made from it and from all that is in the object, see `finalise`.
    """
    made_by = (result.model.sha256, result.model.package_sha256, software_version())
    return derive_uid(purpose, result.study_instance_uid, images_sha256(result.sources), *made_by)


def images_sha256(sources: Sequence[SourceSeries]) -> str:
    """Return a digest of the images of each role and of the patient and study elements that results copy from them.

    The same images of another patient, or with corrected demographics, give another result.
    """
    images = hashlib.sha256()
    for source in sorted(sources, key=lambda source: source.role):
        for frame in source.frames:
            series = frame.series_instance_uid or source.series.series_instance_uid
            images.update(f"{source.role} {series} {frame.sop_instance_uid} {frame.number}\n".encode())
        naming = naming_image(source)
        images.update(f"{source.role} {naming.demographics_sha256 if naming else ''}\n".encode())
    return images.hexdigest()


def naming_image(source: SourceSeries) -> Instance | None:
    """Return the image whose patient and study elements results copy: the first of those that name the patient best.

    None if the image of no slice is among those of the series.
    """
    instances = {instance.sop_instance_uid: instance for instance in source.series.instances}
    used = [instances[frame.sop_instance_uid] for frame in source.frames if frame.sop_instance_uid in instances]
    return max(used, key=lambda image: (bool(image.patient.patient_id), bool(image.patient.birth_date)), default=None)


def _patient(result: SegmentationResult) -> tuple[str, ...]:
    """Return patient ID and issuer, which together name a patient (PS3.3 C.7.1.1)."""
    patient = agreed_identity({source.role: source.series for source in result.sources})
    return patient.patient_id, patient.issuer, patient.issuer_id


def tracking_uid(result: SegmentationResult, label: Label) -> str:
    """Return the tracking UID (0062,0021; 112040 DCM) of a label, equal in all objects of patient, study and model."""
    return derive_uid("tracking", *_patient(result), result.study_instance_uid, result.model.sha256, label.name)


def lesion_tracking_uid(result: SegmentationResult, label: Label, lesion: int) -> str:
    """Return the tracking UID (112040 DCM) of one lesion of a label, by its number from 1."""
    who = (*_patient(result), result.study_instance_uid, result.model.sha256)
    return derive_uid("tracking lesion", *who, label.name, str(lesion))


def intermediate_adc_tracking_uid(result: SegmentationResult, label: Label) -> str:
    """Return the tracking UID (112040 DCM) of the intermediate ADC inside a label."""
    who = (*_patient(result), result.study_instance_uid, result.model.sha256)
    return derive_uid("tracking intermediate ADC", *who, label.name)


def device_uid(model: ModelIdentity) -> str:
    """Return the device UID (0018,1002) of the algorithm: another model package is another device (IHE RAD AIR)."""
    return derive_uid("device", model.sha256, model.package_sha256)
