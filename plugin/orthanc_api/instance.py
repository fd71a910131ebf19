"""The class DicomInstance of Orthanc's API, and CreateDicom, which makes a file from tags in JSON."""

import json
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from plugin.archive.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from plugin.orthanc_api.enums import CreateDicomFlags, InstanceOrigin
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Reception
from plugin.orthanc_api.levels import IDENTIFYING_TAG, Level
from plugin.orthanc_api.tags import Json, JsonFormat, JsonOptions, NotDicom, parse_tag, read_data_set, to_json

_PIXEL_DATA = 0x7FE00010
_FORMS = {form.value: form for form in JsonFormat}
_PIXELS = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})


@dataclass(frozen=True, slots=True)
class DicomInstance:
    """An instance in memory. The methods have Orthanc's names, and raise OrthancException."""

    _content: bytes
    _came: Reception
    _metadata: dict[str, str]

    def GetInstanceData(self) -> bytes:
        """Return the file."""
        return self._content

    def SerializeDicomInstance(self) -> bytes:
        """Return the file."""
        return self._content

    def GetInstanceSize(self) -> int:
        """Return the size of the file in bytes."""
        return len(self._content)

    def GetInstanceRemoteAet(self) -> str:
        """Return the AE title of the sender; empty where there was none."""
        return self._came.sender.ae_title

    def GetInstanceOrigin(self) -> int:
        """Return how it was received: an InstanceOrigin."""
        return self._came.origin

    def GetInstanceTransferSyntaxUid(self) -> str:
        """Return the transfer syntax that the file names."""
        return str(self._read().file_meta.get("TransferSyntaxUID", ""))

    def GetInstanceFramesCount(self) -> int:
        """Return the number of frames; 1 where the file does not say."""
        return int(self._read().get("NumberOfFrames", 1) or 1)

    def HasInstancePixelData(self) -> int:
        """Return 1 where it has pixel data, else 0."""
        return int(_PIXEL_DATA in self._read())

    def HasInstanceMetadata(self, name: str) -> int:
        """Return 1 where it has metadata of this name, else 0."""
        return int(name in self._metadata)

    def GetInstanceMetadata(self, name: str) -> str | None:
        """Return metadata by name; None where there is none."""
        return self._metadata.get(name)

    def GetInstanceJson(self) -> str:
        """Return the elements as /instances/{id}/tags does."""
        return self._as_json(JsonOptions())

    def GetInstanceSimplifiedJson(self) -> str:
        """Return the elements as /instances/{id}/simplified-tags does."""
        return self._as_json(JsonOptions(JsonFormat.HUMAN))

    def GetInstanceAdvancedJson(self, form: int, flags: int, longest: int) -> str:
        """Return the elements by DicomToJsonFormat and DicomToJsonFlags, without texts above `longest` (0: all)."""
        if form not in _FORMS:
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE)
        return self._as_json(JsonOptions(_FORMS[form], flags, longest))

    def GetInstanceRawFrame(self, frame: int) -> bytes:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def GetInstanceDecodedFrame(self, frame: int) -> object:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def _read(self) -> Dataset:
        try:
            return read_data_set(self._content, stop_before_pixels=False)
        except NotDicom as exc:
            raise failure(ErrorCode.BAD_FILE_FORMAT) from exc

    def _as_json(self, shown: JsonOptions) -> str:
        return json.dumps(to_json(self._read(), shown), ensure_ascii=False)


def dicom_instance(content: bytes) -> DicomInstance:
    """Return the DicomInstance of a file. Raises OrthancException."""
    instance = DicomInstance(content, Reception(InstanceOrigin.PLUGIN), {})
    instance._read()
    return instance


def create_dicom(tags: str, image: object, flags: int) -> bytes:
    """Return a DICOM file made from a JSON object: texts by tag or name, lists of objects for sequences.

    Raises ValueError, as Orthanc does, and OrthancException for an image, which is not supported.
    """
    if image is not None:
        raise failure(ErrorCode.NOT_IMPLEMENTED)
    try:
        written = json.loads(tags)
        made = _data_set(written)
        _complete(made, bool(flags & CreateDicomFlags.GENERATE_IDENTIFIERS))
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.ImplementationClassUID = pydicom.uid.UID(IMPLEMENTATION_CLASS_UID)
        made.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as exc:
        raise ValueError("Cannot create the DICOM instance") from exc
    return buffer.getvalue()


def _data_set(written: Json) -> Dataset:
    if not isinstance(written, dict):
        raise TypeError("expected a JSON object")
    made = Dataset()
    for name, value in written.items():
        tag = parse_tag(name)
        if tag is None:
            raise KeyError("unknown tag")
        vr = dictionary_VR(tag).split(" ")[0]
        if vr in _PIXELS:
            raise ValueError("binary values are not supported")
        if vr == "SQ":
            made.add(DataElement(tag, vr, [_data_set(item) for item in value]))
        elif isinstance(value, str):
            made.add(DataElement(tag, vr, _parsed(vr, value)))
        else:
            raise TypeError("expected a text or a list of objects")
    return made


def _parsed(vr: str, text: str) -> Json:
    """Return the value of an element: numbers for binary representations, else text split at backslashes."""
    if not text:
        return None
    if vr in ("US", "SS", "UL", "SL", "UV", "SV"):
        return [int(part) for part in text.split("\\")]
    if vr in ("FL", "FD"):
        return [float(part) for part in text.split("\\")]
    if vr == "AT":
        return [parse_tag(part) for part in text.split("\\")]
    return text.split("\\") if vr not in ("LT", "ST", "UT", "UR") else text


def _complete(made: Dataset, generate: bool) -> None:
    if "SpecificCharacterSet" not in made:
        made.SpecificCharacterSet = "ISO_IR 100"
    if not generate:
        return
    for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
        if IDENTIFYING_TAG[level] not in made:
            made.add(DataElement(IDENTIFYING_TAG[level], "UI", generate_uid(prefix=None)))
    if "PatientID" not in made:
        made.PatientID = generate_uid(prefix=None)[-16:]
