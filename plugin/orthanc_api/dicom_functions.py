"""Functions of the module `orthanc` about DICOM: files, identifiers, the dictionary."""

from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR
from pydicom.tag import Tag

from plugin.orthanc_api.arguments import as_bytes, as_text
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.enums import ValueRepresentation
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.file_routes import read_file
from plugin.orthanc_api.instance import DicomInstance, create_dicom, dicom_instance
from plugin.orthanc_api.levels import IDENTIFYING_TAG, Level
from plugin.orthanc_api.tags import parse_tag, tag_name

_ACCESSION_NUMBER = 0x00080050


@dataclass(frozen=True, slots=True)
class DicomFunctions:
    """The functions by their names in orthanc-python; arguments are positional, as there."""

    host: EmbeddedHost

    def GetDicomForInstance(self, instance_id: str, /) -> bytes:
        """Return the file of an instance."""
        self.host.require_started()
        return read_file(self.host.resource(Level.INSTANCE, as_text(instance_id)))

    def CreateDicom(self, tags: str, image: object, flags: int, /) -> bytes:
        """Return a DICOM file made of tags in JSON."""
        return create_dicom(as_text(tags), image, flags)

    def CreateDicomInstance(self, content: bytes, /) -> DicomInstance:
        """Return the DicomInstance of a file."""
        return dicom_instance(as_bytes(content))

    def DicomBufferToJson(self, content: bytes, form: int, flags: int, longest: int, /) -> str:
        """Return the elements of a file as JSON."""
        return dicom_instance(as_bytes(content)).GetInstanceAdvancedJson(form, flags, longest)

    def DicomInstanceToJson(self, instance_id: str, form: int, flags: int, longest: int, /) -> str:
        """Return the elements of an instance of the archive as JSON."""
        return self.DicomBufferToJson(self.GetDicomForInstance(instance_id), form, flags, longest)

    def LookupPatient(self, patient_id: str, /) -> str:
        """Return Orthanc's identifier of a patient. Raises OrthancException where there is none."""
        return self._look_up(Level.PATIENT, IDENTIFYING_TAG[Level.PATIENT], patient_id)

    def LookupStudy(self, study_instance_uid: str, /) -> str:
        """Return Orthanc's identifier of a study; see LookupPatient."""
        return self._look_up(Level.STUDY, IDENTIFYING_TAG[Level.STUDY], study_instance_uid)

    def LookupStudyWithAccessionNumber(self, accession_number: str, /) -> str:
        """Return Orthanc's identifier of a study by its accession number; see LookupPatient."""
        return self._look_up(Level.STUDY, _ACCESSION_NUMBER, accession_number)

    def LookupSeries(self, series_instance_uid: str, /) -> str:
        """Return Orthanc's identifier of a series; see LookupPatient."""
        return self._look_up(Level.SERIES, IDENTIFYING_TAG[Level.SERIES], series_instance_uid)

    def LookupInstance(self, sop_instance_uid: str, /) -> str:
        """Return Orthanc's identifier of an instance; see LookupPatient."""
        return self._look_up(Level.INSTANCE, IDENTIFYING_TAG[Level.INSTANCE], sop_instance_uid)

    def _look_up(self, level: Level, tag: int, wanted: str) -> str:
        self.host.require_started()
        found = [each.identifier for each in self.host.index.all(level) if each.text(tag) == as_text(wanted)]
        if not found:
            raise failure(ErrorCode.INTERNAL_ERROR)
        return found[0]

    def GetTagName(self, group: int, element: int, private_creator: str, /) -> str:
        """Return the name of a tag."""
        as_text(private_creator)
        return tag_name(Tag(group, element))

    def LookupDictionary(self, name: str, /) -> dict[str, int]:
        """Return tag, value representation and multiplicity (0: any) of a name. Raises TypeError for an unknown one."""
        tag = parse_tag(as_text(name))
        if tag is None or not dictionary_has_tag(tag):
            raise TypeError("expected a name of the dictionary")
        vr, multiplicity = dictionary_VR(tag), dictionary_VM(tag)
        least, _, most = multiplicity.partition("-")
        return {
            "Group": tag >> 16,
            "Element": tag & 0xFFFF,
            "ValueRepresentation": getattr(ValueRepresentation, vr[:2], ValueRepresentation.UN),
            "MinMultiplicity": int(least),
            "MaxMultiplicity": int(most or least) if (most or least).isdecimal() else 0,
        }
