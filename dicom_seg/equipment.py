"""Who made an object: the node as equipment, the model as algorithm, and what the model may be used for."""

import re
from importlib.metadata import version

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment

from dicom_seg import codes
from dicom_seg.uids import device_uid
from models.package import IntendedUse
from pipeline.result import ModelIdentity

MANUFACTURER = "glionode"
DEVICE_NAME = "glionode"

_LIMITED_TO = {IntendedUse.DEMONSTRATION: "Demonstration", IntendedUse.RESEARCH: "Research"}


def use_warning(model: ModelIdentity) -> str:
    """What a person must know before using the result; "" for a clinical model."""
    limit = _LIMITED_TO.get(model.intended_use)
    return f"{limit} only, not for clinical use" if limit else ""


def described(text: str, model: ModelIdentity) -> str:
    """A series or content description, within the 64 characters of LO, that says what the model may be used for.

    The limit comes first, because viewers cut descriptions off at the end.
    """
    limit = _LIMITED_TO.get(model.intended_use)
    return f"{limit} only: {text[:22]}, not for clinical use" if limit else text[:64]


def software_versions(model: ModelIdentity) -> list[str]:
    """(0018,1020): the node's version and the model's, each within the 64 characters of LO."""
    return [f"{DEVICE_NAME} {version('glionode')}"[:64], f"{_plain(model.name)} {_plain(model.version)}"[:64]]


def serial_number(model: ModelIdentity) -> str:
    """(0018,1000), mandatory in SEG. Software has none: the first 16 digits of the model's sha256 tell models apart."""
    return model.sha256[:16] or "0"


def algorithm_parameters(model: ModelIdentity) -> dict[str, str]:
    """What identifies a run of the algorithm beyond name and version."""
    return {"intended_use": model.intended_use.value, "weights_sha256": model.sha256}


def algorithm(model: ModelIdentity) -> AlgorithmIdentificationSequence:
    """The model as PS3.3 table 10-19 wants it."""
    return AlgorithmIdentificationSequence(
        name=_plain(model.name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=_plain(model.version),
        source=MANUFACTURER,
        parameters=algorithm_parameters(model),
    )


def contributing_equipment(model: ModelIdentity) -> ContributingEquipment:
    """The algorithm as an item of (0018,A001) whose Device UID changes with the model (IHE RAD AIR)."""
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
    # Backslash parts values in LO, and a model's text must fit whatever character set the patient's name needs.
    return re.sub(r"[^ -~]|\\", "?", text)
