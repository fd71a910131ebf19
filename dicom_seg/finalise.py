"""What every object of ours needs after highdicom built it: the source's patient, study and character set; no clock."""

from highdicom.base import SOPClass
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_seg import codes

_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


def finalise(dataset: SOPClass, header: Dataset) -> Dataset:
    """The object with the patient and study modules of a source header, free of the time of encoding.

    Our own texts are ASCII, which is in every character set that a patient's name may need.
    """
    dataset.copy_patient_and_study_information(header)
    _drop_malformed(dataset)
    if "SpecificCharacterSet" in header:
        dataset.SpecificCharacterSet = header.SpecificCharacterSet
    _forget_the_clock(dataset)
    # Without highdicom's lookup tables, built before the references were true.
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.preamble = dataset.preamble
    return plain


def _drop_malformed(dataset: Dataset) -> None:
    """Leave out what is said of the patient but breaks the rules of its VR, such as an age of "0Y": archives refuse it.

    What identifies the patient is left as the scanner wrote it.
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


def _forget_the_clock(dataset: Dataset) -> None:
    """Drop the type 3 attributes that would make two writings of one result differ."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.ContributingEquipmentSequence:
        purpose = item.PurposeOfReferenceCodeSequence[0].CodeValue
        if purpose != codes.ACQUISITION_EQUIPMENT.value and "ContributionDateTime" in item:
            del item.ContributionDateTime
