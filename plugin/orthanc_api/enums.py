"""The enumerations of the module `orthanc`: classes of integers, as in orthanc-python.

Names and values are those of orthanc-python 4.0 with Orthanc 1.10; a test compares them with the real module.
"""


class ChangeType:
    """The kind of a change."""

    COMPLETED_SERIES = 0
    DELETED = 1
    NEW_CHILD_INSTANCE = 2
    NEW_INSTANCE = 3
    NEW_PATIENT = 4
    NEW_SERIES = 5
    NEW_STUDY = 6
    STABLE_PATIENT = 7
    STABLE_SERIES = 8
    STABLE_STUDY = 9
    ORTHANC_STARTED = 10
    ORTHANC_STOPPED = 11
    UPDATED_ATTACHMENT = 12
    UPDATED_METADATA = 13
    UPDATED_PEERS = 14
    UPDATED_MODALITIES = 15
    JOB_SUBMITTED = 16
    JOB_SUCCESS = 17
    JOB_FAILURE = 18


class CompressionType:
    """The compression of a buffer."""

    ZLIB = 0
    ZLIB_WITH_SIZE = 1
    GZIP = 2
    GZIP_WITH_SIZE = 3


class ConstraintType:
    """The comparison of a search with a value."""

    EQUAL = 1
    SMALLER_OR_EQUAL = 2
    GREATER_OR_EQUAL = 3
    WILDCARD = 4
    LIST = 5


class ContentType:
    """The kind of an attachment."""

    UNKNOWN = 0
    DICOM = 1
    DICOM_AS_JSON = 2
    DICOM_UNTIL_PIXEL_DATA = 3


class CreateDicomFlags:
    """Flags of CreateDicom."""

    NONE = 0
    DECODE_DATA_URI_SCHEME = 1
    GENERATE_IDENTIFIERS = 2


class DicomToJsonFlags:
    """Which elements DicomToJson writes."""

    NONE = 0
    INCLUDE_BINARY = 1
    INCLUDE_PRIVATE_TAGS = 2
    INCLUDE_UNKNOWN_TAGS = 4
    INCLUDE_PIXEL_DATA = 8
    CONVERT_BINARY_TO_ASCII = 16
    CONVERT_BINARY_TO_NULL = 32
    STOP_AFTER_PIXEL_DATA = 64
    SKIP_GROUP_LENGTHS = 128


class DicomToJsonFormat:
    """The format of DicomToJson."""

    FULL = 1
    SHORT = 2
    HUMAN = 3


class DicomWebBinaryMode:
    """How DICOMweb JSON writes binary values."""

    IGNORE = 0
    INLINE_BINARY = 1
    BULK_DATA_URI = 2


class HttpMethod:
    """The method of an HTTP request."""

    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4


class IdentifierConstraint:
    """The comparison of an identifier."""

    EQUAL = 1
    SMALLER_OR_EQUAL = 2
    GREATER_OR_EQUAL = 3
    WILDCARD = 4


class ImageFormat:
    """The format of an image file."""

    PNG = 0
    JPEG = 1
    DICOM = 2


class InstanceOrigin:
    """How an instance was received."""

    UNKNOWN = 1
    DICOM_PROTOCOL = 2
    REST_API = 3
    PLUGIN = 4
    LUA = 5
    WEB_DAV = 6


class JobStepStatus:
    """The result of a step of a job."""

    SUCCESS = 1
    FAILURE = 2
    CONTINUE = 3


class JobStopReason:
    """The reason why a job was stopped."""

    SUCCESS = 1
    PAUSED = 2
    FAILURE = 3
    CANCELED = 4


class MetricsType:
    """How the values of a metric are combined."""

    DEFAULT = 0
    TIMER = 1


class PixelFormat:
    """The pixel format of an image."""

    GRAYSCALE8 = 1
    GRAYSCALE16 = 2
    SIGNED_GRAYSCALE16 = 3
    RGB24 = 4
    RGBA32 = 5
    UNKNOWN = 6
    RGB48 = 7
    GRAYSCALE32 = 8
    FLOAT32 = 9
    BGRA32 = 10
    GRAYSCALE64 = 11


class ReceivedInstanceAction:
    """What to do with a received instance."""

    KEEP_AS_IS = 1
    MODIFY = 2
    DISCARD = 3


class ResourceType:
    """The level of a resource."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3
    NONE = 4


class StorageCommitmentFailureReason:
    """Failure reasons of storage commitment (PS3.3 C.14.1.1)."""

    SUCCESS = 0
    PROCESSING_FAILURE = 1
    NO_SUCH_OBJECT_INSTANCE = 2
    RESOURCE_LIMITATION = 3
    REFERENCED_SOPCLASS_NOT_SUPPORTED = 4
    CLASS_INSTANCE_CONFLICT = 5
    DUPLICATE_TRANSACTION_UID = 6


class ValueRepresentation:
    """Value representations (PS3.5 6.2)."""

    AE = 1
    AS = 2
    AT = 3
    CS = 4
    DA = 5
    DS = 6
    DT = 7
    FD = 8
    FL = 9
    IS = 10
    LO = 11
    LT = 12
    OB = 13
    OF = 14
    OW = 15
    PN = 16
    SH = 17
    SL = 18
    SQ = 19
    SS = 20
    ST = 21
    TM = 22
    UI = 23
    UL = 24
    UN = 25
    US = 26
    UT = 27


ENUMERATIONS = tuple(each for each in list(globals().values()) if isinstance(each, type))
"""All classes above."""
