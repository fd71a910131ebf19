"""What every object of ours needs after highdicom built it: the source's patient, study and character set; no clock."""

from highdicom.base import SOPClass
from pydicom.dataset import Dataset

from dicom_seg import codes


def finish(dataset: SOPClass, header: Dataset) -> Dataset:
    """The object with the patient and study modules of a source header, free of the time of encoding.

    Our own texts are ASCII, which is in every character set that a patient's name may need.
    """
    dataset.copy_patient_and_study_information(header)
    if "SpecificCharacterSet" in header:
        dataset.SpecificCharacterSet = header.SpecificCharacterSet
    _forget_the_clock(dataset)
    # Without highdicom's lookup tables, built before the references were true.
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.preamble = dataset.preamble
    return plain


def _forget_the_clock(dataset: Dataset) -> None:
    """Drop the type 3 attributes that would make two writings of one result differ."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.ContributingEquipmentSequence:
        purpose = item.PurposeOfReferenceCodeSequence[0].CodeValue
        if purpose != codes.ACQUISITION_EQUIPMENT.value and "ContributionDateTime" in item:
            del item.ContributionDateTime
