"""DICOM files for comparing both hosts of a script: three patients, whose elements vary the form of the answers."""

from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.1"
MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"


def write_contract_files(folder: Path) -> None:
    """Write the files, named in the order in which they are to be stored."""
    folder.mkdir()
    for number, (patient, series, modality, description) in enumerate(
        (
            (1, 1, "MR", "T1 post"),
            (1, 1, "MR", "T1 post"),
            (1, 2, "MR", "Axial FLAIR"),
            (2, 1, "CT", ""),
            (3, 1, "MR", "x"),
        )
    ):
        buffer = BytesIO()
        dcmwrite(buffer, _instance(patient, series, number, modality, description), enforce_file_format=True)
        (folder / f"{number}.dcm").write_bytes(buffer.getvalue())


def _instance(patient: int, series: int, number: int, modality: str, description: str) -> Dataset:
    study = f"{ROOT}.{patient}"
    instance = Dataset()
    instance.SpecificCharacterSet = "ISO_IR 100"
    instance.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    instance.SOPClassUID = UID(MR if modality == "MR" else CT)
    instance.SOPInstanceUID = UID(f"{study}.{series}.{number + 1}")
    instance.StudyInstanceUID = UID(study)
    instance.SeriesInstanceUID = UID(f"{study}.{series}")
    instance.StudyDate = f"20{18 + patient}0115"
    instance.StudyTime = "101112.5"
    instance.AccessionNumber = f"ACC-{patient}"
    instance.Modality = modality
    instance.Manufacturer = "Büro"
    instance.InstitutionName = ""
    instance.StudyDescription = f"Study  of {patient} "
    instance.SeriesDescription = description
    instance.PatientName = f"Trial^{('One', 'Zwö', 'Three')[patient - 1]}"
    instance.PatientID = f"TRIAL-{patient}"
    instance.PatientBirthDate = "19500102" if patient < 3 else ""
    instance.PatientSex = "O"
    instance.OtherPatientIDs = ["A", "B"]
    instance.PatientComments = "long " * 80
    instance.BodyPartExamined = "HEAD"
    instance.SliceThickness = "1.50"
    instance.EchoTime = 90
    instance.SeriesNumber = series
    instance.InstanceNumber = number + 1
    instance.StudyID = "S1"
    instance.ImagePositionPatient = [0.5, -1, 2e-3]
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.FrameOfReferenceUID = UID(f"{study}.9")
    instance.ImageComments = "a\r\nb"
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows = instance.Columns = 4
    instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 12, 11, 0
    instance.FrameIncrementPointer = 0x00181063
    instance.RealWorldValueFirstValueMapped = 3
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = UID(MR)
    referenced.ReferencedSOPInstanceUID = UID(f"{study}.7")
    referenced.StudyInstanceUID = UID(f"{study}.8")
    instance.ReferencedStudySequence = [referenced, Dataset()]
    instance.RequestAttributesSequence = []
    instance.DiffusionBValue = 1000.125
    private = instance.private_block(0x0019, "TRIAL PRIVATE", create=True)
    private.add_new(0x01, "LO", "private")
    private.add_new(0x02, "OB", b"\x01\x02")
    instance.PixelData = bytes(range(32))
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance
