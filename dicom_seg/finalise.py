"""Complete objects that highdicom built: elements of the source, no times of encoding, UIDs made from the contents."""

import hashlib
from collections.abc import Sequence
from io import BytesIO

from highdicom.base import SOPClass
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID

from dicom_seg import codes
from dicom_seg.copied_elements import keep_raw, replace_elements, undecoded
from dicom_seg.source_headers import POSITION_REFERENCE, SourceHeaders
from dicom_seg.uids import derive_uid
from dicom_seg.write import as_bytes


def finalise(dataset: SOPClass, source: SourceHeaders) -> Dataset:
    """Return the only object of a series with the patient and study modules of its source, without times of encoding.

    See `finalise_series`.
    """
    return finalise_series([dataset], source)[0]


def finalise_series(datasets: Sequence[SOPClass], source: SourceHeaders) -> tuple[Dataset, ...]:
    """Return the objects of one series with the patient and study modules of their source, without times of encoding.

    Patient and study are the bytes of the source header, under its character set; our own texts are plain ASCII, which
    every character set includes. The UIDs of instances and series are derived from all bytes of the files, so that one
    UID never stands for two contents: an object that differs in anything, such as the patient, a threshold of the
    model, the version of the software, the start of the analysis or a voxel, is another object. The UIDs that the
    objects come with enter the new ones.
    """
    contents = [as_bytes(_completed(dataset, source)) for dataset in datasets]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    # Read back, where elements are bytes until they are accessed: pydicom writes these as they are, which is fast.
    completed = [dcmread(BytesIO(content)) for content in contents]
    for dataset, digest in zip(completed, digests, strict=True):
        uid = derive_uid("instance", digest, *digests)
        dataset.SOPInstanceUID, dataset.file_meta.MediaStorageSOPInstanceUID = uid, UID(uid)
        dataset.SeriesInstanceUID = derive_uid("series", *digests)
    return tuple(completed)


def _completed(dataset: SOPClass, source: SourceHeaders) -> Dataset:
    # A plain Dataset lacks highdicom's lookup tables, which were built before the references were replaced.
    plain = correct_ambiguous_vr(Dataset(dataset), True)  # pydicom leaves it out where elements are kept as they are
    plain.file_meta = dataset.file_meta
    plain.preamble = dataset.preamble
    replace_elements(plain, source.copied)
    keep_raw(plain)
    for element in undecoded(source.equipment):
        if element.tag == POSITION_REFERENCE and element.tag in plain:
            plain[element.tag] = element
    for item in plain.ContributingEquipmentSequence:
        _complete_equipment(item, source.equipment)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in plain:
            delattr(plain, keyword)
    return plain


def _complete_equipment(item: Dataset, scanner: Dataset) -> None:
    """Describe the scanner by its own elements; remove the type 3 times that make two encodings differ from others."""
    if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.ACQUISITION_EQUIPMENT.value:
        for element in undecoded(scanner):
            if element.tag != POSITION_REFERENCE and element.value:
                item[element.tag] = element
        keep_raw(item)
    elif "ContributionDateTime" in item:
        del item.ContributionDateTime
