"""The exception of Orthanc's API, and its error codes with their descriptions.

Codes and descriptions are those of orthanc-python 4.0 with Orthanc 1.10, word for word, as plugins compare them; a test
compares them with the real module.
"""


class OrthancException(Exception):
    """An error of the API. Its arguments are a code and its description."""


DESCRIPTIONS: dict[int, str] = {}
"""By error code."""


def _code(number: int, description: str) -> int:
    DESCRIPTIONS[number] = description
    return number


class ErrorCode:
    """The error codes of Orthanc."""

    INTERNAL_ERROR = _code(-1, "Internal error")
    SUCCESS = _code(0, "Success")
    PLUGIN = _code(1, "Error encountered within the plugin engine")
    NOT_IMPLEMENTED = _code(2, "Not implemented yet")
    PARAMETER_OUT_OF_RANGE = _code(3, "Parameter out of range")
    NOT_ENOUGH_MEMORY = _code(4, "The server hosting Orthanc is running out of memory")
    BAD_PARAMETER_TYPE = _code(5, "Bad type for a parameter")
    BAD_SEQUENCE_OF_CALLS = _code(6, "Bad sequence of calls")
    INEXISTENT_ITEM = _code(7, "Accessing an inexistent item")
    BAD_REQUEST = _code(8, "Bad request")
    NETWORK_PROTOCOL = _code(9, "Error in the network protocol")
    SYSTEM_COMMAND = _code(10, "Error while calling a system command")
    DATABASE = _code(11, "Error with the database engine")
    URI_SYNTAX = _code(12, "Badly formatted URI")
    INEXISTENT_FILE = _code(13, "Inexistent file")
    CANNOT_WRITE_FILE = _code(14, "Cannot write to file")
    BAD_FILE_FORMAT = _code(15, "Bad file format")
    TIMEOUT = _code(16, "Timeout")
    UNKNOWN_RESOURCE = _code(17, "Unknown resource")
    INCOMPATIBLE_DATABASE_VERSION = _code(18, "Incompatible version of the database")
    FULL_STORAGE = _code(19, "The file storage is full")
    CORRUPTED_FILE = _code(20, "Corrupted file (e.g. inconsistent MD5 hash)")
    INEXISTENT_TAG = _code(21, "Inexistent tag")
    READ_ONLY = _code(22, "Cannot modify a read-only data structure")
    INCOMPATIBLE_IMAGE_FORMAT = _code(23, "Incompatible format of the images")
    INCOMPATIBLE_IMAGE_SIZE = _code(24, "Incompatible size of the images")
    SHARED_LIBRARY = _code(25, "Error while using a shared library (plugin)")
    UNKNOWN_PLUGIN_SERVICE = _code(26, "Plugin invoking an unknown service")
    UNKNOWN_DICOM_TAG = _code(27, "Unknown DICOM tag")
    BAD_JSON = _code(28, "Cannot parse a JSON document")
    UNAUTHORIZED = _code(29, "Bad credentials were provided to an HTTP request")
    BAD_FONT = _code(30, "Badly formatted font file")
    DATABASE_PLUGIN = _code(
        31, "The plugin implementing a custom database back-end does not fulfill the proper interface"
    )
    STORAGE_AREA_PLUGIN = _code(32, "Error in the plugin implementing a custom storage area")
    EMPTY_REQUEST = _code(33, "The request is empty")
    NOT_ACCEPTABLE = _code(34, "Cannot send a response which is acceptable according to the Accept HTTP header")
    NULL_POINTER = _code(35, "Cannot handle a NULL pointer")
    DATABASE_UNAVAILABLE = _code(36, "The database is currently not available (probably a transient situation)")
    CANCELED_JOB = _code(37, "This job was canceled")
    BAD_GEOMETRY = _code(38, "Geometry error encountered in Stone")
    SSL_INITIALIZATION = _code(39, "Cannot initialize SSL encryption, check out your certificates")
    DISCONTINUED_ABI = _code(40, "Calling a function that has been removed from the Orthanc Framework")
    BAD_RANGE = _code(41, "Incorrect range request")
    DATABASE_CANNOT_SERIALIZE = _code(
        42, "Database could not serialize access due to concurrent update, the transaction should be retried"
    )
    REVISION = _code(43, "A bad revision number was provided, which might indicate conflict between multiple writers")
    SQLITE_NOT_OPENED = _code(1000, "SQLite: The database is not opened")
    SQLITE_ALREADY_OPENED = _code(1001, "SQLite: Connection is already open")
    SQLITE_CANNOT_OPEN = _code(1002, "SQLite: Unable to open the database")
    SQLITE_STATEMENT_ALREADY_USED = _code(1003, "SQLite: This cached statement is already being referred to")
    SQLITE_EXECUTE = _code(1004, "SQLite: Cannot execute a command")
    SQLITE_ROLLBACK_WITHOUT_TRANSACTION = _code(
        1005, "SQLite: Rolling back a nonexistent transaction (have you called Begin()?)"
    )
    SQLITE_COMMIT_WITHOUT_TRANSACTION = _code(1006, "SQLite: Committing a nonexistent transaction")
    SQLITE_REGISTER_FUNCTION = _code(1007, "SQLite: Unable to register a function")
    SQLITE_FLUSH = _code(1008, "SQLite: Unable to flush the database")
    SQLITE_CANNOT_RUN = _code(1009, "SQLite: Cannot run a cached statement")
    SQLITE_CANNOT_STEP = _code(1010, "SQLite: Cannot step over a cached statement")
    SQLITE_BIND_OUT_OF_RANGE = _code(1011, "SQLite: Bing a value while out of range (serious error)")
    SQLITE_PREPARE_STATEMENT = _code(1012, "SQLite: Cannot prepare a cached statement")
    SQLITE_TRANSACTION_ALREADY_STARTED = _code(1013, "SQLite: Beginning the same transaction twice")
    SQLITE_TRANSACTION_COMMIT = _code(1014, "SQLite: Failure when committing the transaction")
    SQLITE_TRANSACTION_BEGIN = _code(1015, "SQLite: Cannot start a transaction")
    DIRECTORY_OVER_FILE = _code(2000, "The directory to be created is already occupied by a regular file")
    FILE_STORAGE_CANNOT_WRITE = _code(2001, "Unable to create a subdirectory or a file in the file storage")
    DIRECTORY_EXPECTED = _code(2002, "The specified path does not point to a directory")
    HTTP_PORT_IN_USE = _code(2003, "The TCP port of the HTTP server is privileged or already in use")
    DICOM_PORT_IN_USE = _code(2004, "The TCP port of the DICOM server is privileged or already in use")
    BAD_HTTP_STATUS_IN_REST = _code(2005, "This HTTP status is not allowed in a REST API")
    REGULAR_FILE_EXPECTED = _code(2006, "The specified path does not point to a regular file")
    PATH_TO_EXECUTABLE = _code(2007, "Unable to get the path to the executable")
    MAKE_DIRECTORY = _code(2008, "Cannot create a directory")
    BAD_APPLICATION_ENTITY_TITLE = _code(
        2009, "An application entity title (AET) cannot be empty or be longer than 16 characters"
    )
    NO_CFIND_HANDLER = _code(2010, "No request handler factory for DICOM C-FIND SCP")
    NO_CMOVE_HANDLER = _code(2011, "No request handler factory for DICOM C-MOVE SCP")
    NO_CSTORE_HANDLER = _code(2012, "No request handler factory for DICOM C-STORE SCP")
    NO_APPLICATION_ENTITY_FILTER = _code(2013, "No application entity filter")
    NO_SOP_CLASS_OR_INSTANCE = _code(2014, "DicomUserConnection: Unable to find the SOP class and instance")
    NO_PRESENTATION_CONTEXT = _code(2015, "DicomUserConnection: No acceptable presentation context for modality")
    DICOM_FIND_UNAVAILABLE = _code(2016, "DicomUserConnection: The C-FIND command is not supported by the remote SCP")
    DICOM_MOVE_UNAVAILABLE = _code(2017, "DicomUserConnection: The C-MOVE command is not supported by the remote SCP")
    CANNOT_STORE_INSTANCE = _code(2018, "Cannot store an instance")
    CREATE_DICOM_NOT_STRING = _code(2019, "Only string values are supported when creating DICOM instances")
    CREATE_DICOM_OVERRIDE_TAG = _code(2020, "Trying to override a value inherited from a parent module")
    CREATE_DICOM_USE_CONTENT = _code(2021, 'Use "Content" to inject an image into a new DICOM instance')
    CREATE_DICOM_NO_PAYLOAD = _code(2022, "No payload is present for one instance in the series")
    CREATE_DICOM_USE_DATA_URI_SCHEME = _code(
        2023, "The payload of the DICOM instance must be specified according to Data URI scheme"
    )
    CREATE_DICOM_BAD_PARENT = _code(2024, "Trying to attach a new DICOM instance to an inexistent resource")
    CREATE_DICOM_PARENT_IS_INSTANCE = _code(
        2025, "Trying to attach a new DICOM instance to an instance (must be a series, study or patient)"
    )
    CREATE_DICOM_PARENT_ENCODING = _code(2026, "Unable to get the encoding of the parent resource")
    UNKNOWN_MODALITY = _code(2027, "Unknown modality")
    BAD_JOB_ORDERING = _code(2028, "Bad ordering of filters in a job")
    JSON_TO_LUA_TABLE = _code(2029, "Cannot convert the given JSON object to a Lua table")
    CANNOT_CREATE_LUA = _code(2030, "Cannot create the Lua context")
    CANNOT_EXECUTE_LUA = _code(2031, "Cannot execute a Lua command")
    LUA_ALREADY_EXECUTED = _code(2032, "Arguments cannot be pushed after the Lua function is executed")
    LUA_BAD_OUTPUT = _code(2033, "The Lua function does not give the expected number of outputs")
    NOT_LUA_PREDICATE = _code(2034, "The Lua function is not a predicate (only true/false outputs allowed)")
    LUA_RETURNS_NO_STRING = _code(2035, "The Lua function does not return a string")
    STORAGE_AREA_ALREADY_REGISTERED = _code(2036, "Another plugin has already registered a custom storage area")
    DATABASE_BACKEND_ALREADY_REGISTERED = _code(
        2037, "Another plugin has already registered a custom database back-end"
    )
    DATABASE_NOT_INITIALIZED = _code(2038, "Plugin trying to call the database during its initialization")
    SSL_DISABLED = _code(2039, "Orthanc has been built without SSL support")
    CANNOT_ORDER_SLICES = _code(2040, "Unable to order the slices of the series")
    NO_WORKLIST_HANDLER = _code(2041, "No request handler factory for DICOM C-Find Modality SCP")
    ALREADY_EXISTING_TAG = _code(2042, "Cannot override the value of a tag that already exists")
    NO_STORAGE_COMMITMENT_HANDLER = _code(
        2043, "No request handler factory for DICOM N-ACTION SCP (storage commitment)"
    )
    NO_CGET_HANDLER = _code(2044, "No request handler factory for DICOM C-GET SCP")
    UNSUPPORTED_MEDIA_TYPE = _code(3000, "Unsupported media type")


def describe(code: int) -> str:
    """Return the description of an error code."""
    return DESCRIPTIONS.get(code, "Unknown error code")


def failure(code: int) -> OrthancException:
    """Return the exception for an error code."""
    return OrthancException(code, DESCRIPTIONS[code])
