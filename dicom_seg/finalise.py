"""Complete an object that highdicom built: add patient, study and character set, remove times of encoding."""

from highdicom.base import SOPClass
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_seg import codes

_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


def finalise(dataset: SOPClass, header: Dataset) -> Dataset:
    """Return the object with the patient and study modules of a source header and without times of encoding.

    Our own texts are ASCII, which every character set that a patient's name may need includes.
    """
    dataset.copy_patient_and_study_information(header)
    _drop_malformed(dataset)
    if "SpecificCharacterSet" in header:
        dataset.SpecificCharacterSet = header.SpecificCharacterSet
    _remove_encoding_times(dataset)
    # A plain Dataset lacks highdicom's lookup tables, which were built before the references were replaced.
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.preamble = dataset.preamble
    return plain


def _drop_malformed(dataset: Dataset) -> None:
    """Remove patient attributes whose values violate their VR, such as an age of "0Y", because archives refuse them.

    Attributes that identify the patient stay as the scanner wrote them.
    """
    malformed = []
    for element in dataset.group_dataset(0x0010):
        if element.keyword not in _IDENTITY and element.VR != "SQ":
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            try:
                for value in values:
                    validate_value(element.VR, str(value), config.RAISE)
            except ValueError:
                malformed.append(element.tag)
    for tag in malformed:
        del dataset[tag]


def _remove_encoding_times(dataset: Dataset) -> None:
    """Remove the type 3 attributes that would make two encodings of one result differ."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.ContributingEquipmentSequence:
        purpose = item.PurposeOfReferenceCodeSequence[0].CodeValue
        if purpose != codes.ACQUISITION_EQUIPMENT.value and "ContributionDateTime" in item:
            del item.ContributionDateTime
