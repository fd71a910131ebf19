"""Describe who made an object: the node as equipment, the model as algorithm, and the model's intended use."""

import re
from datetime import datetime
from typing import Any

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from pydicom.uid import ExplicitVRLittleEndian

from dicom_seg import codes
from dicom_seg.uids import device_uid
from models.package import IntendedUse
from models.software_version import software_version
from pipeline.result import ModelIdentity

MANUFACTURER = "glionode"
DEVICE_NAME = "glionode"

_LIMITED_TO = {IntendedUse.DEMONSTRATION: "Demonstration", IntendedUse.RESEARCH: "Research"}


def use_warning(model: ModelIdentity) -> str:
    """Return the limit of a model's intended use as a sentence; "" for a clinical model."""
    limit = _LIMITED_TO.get(model.intended_use)
    return f"{limit} only, not for clinical use" if limit else ""


def described(text: str, model: ModelIdentity) -> str:
    """Return a series or content description, within the 64 characters of LO, with the limit of intended use.

    The limit comes first, because viewers cut long descriptions off.
    """
    limit = _LIMITED_TO.get(model.intended_use)
    return f"{limit} only: {text[:22]}, not for clinical use" if limit else text[:64]


def software_versions(model: ModelIdentity) -> list[str]:
    """Return (0018,1020): the versions of the node and of the model, each within the 64 characters of LO."""
    return [f"{DEVICE_NAME} {software_version()}"[:64], f"{_plain(model.name)} {_plain(model.version)}"[:64]]


def serial_number(model: ModelIdentity) -> str:
    """Return (0018,1000), mandatory in SEG: the first 16 digits of the package's sha256, which tell models apart."""
    return (model.package_sha256 or model.sha256)[:16] or "0"


def algorithm_parameters(model: ModelIdentity) -> dict[str, str]:
    """Return what identifies the algorithm beyond name and version, by name."""
    package = {"package_sha256": model.package_sha256} if model.package_sha256 else {}
    return {"intended_use": model.intended_use.value, "weights_sha256": model.sha256, **package}


def algorithm(model: ModelIdentity) -> AlgorithmIdentificationSequence:
    """Return the model as an Algorithm Identification Macro (PS3.3 table 10-19)."""
    return AlgorithmIdentificationSequence(
        name=_plain(model.name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=_plain(model.version),
        source=MANUFACTURER,
        parameters=algorithm_parameters(model),
    )


def creation_arguments(model: ModelIdentity, started: datetime) -> dict[str, Any]:
    """Return the arguments for highdicom that all objects share: equipment, transfer syntax, dates and times."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": DEVICE_NAME,
        "software_versions": software_versions(model),
        "device_serial_number": serial_number(model),
        "contributing_equipment": [_contributing_equipment(model)],
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        **dict.fromkeys(("content_date", "series_date"), started.date()),
        **dict.fromkeys(("content_time", "series_time"), started.time()),
    }


def _contributing_equipment(model: ModelIdentity) -> ContributingEquipment:
    """Return the algorithm as an item of (0018,A001), with a Device UID for each model (IHE RAD AIR)."""
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=_plain(model.name),
        software_versions=software_versions(model),
        device_serial_number=serial_number(model),
        contribution_description=f"Segmentation and measurement by {_plain(model.name)} {_plain(model.version)}",
    )
    item.DeviceUID = device_uid(model)
    return item


def _plain(text: str) -> str:
    # A backslash separates values in LO, and the text must fit every character set that a patient's name may need.
    return re.sub(r"[^ -~]|\\", "?", text)
