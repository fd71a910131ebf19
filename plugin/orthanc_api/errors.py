"""The exception of Orthanc's API, its error codes, and the descriptions of those that the node raises.

Codes are those of orthanc-python 4.0 with Orthanc 1.10; a test compares them with the real module.
"""


class OrthancException(Exception):
    """An error of the API. Its arguments are a code and its description."""


class ErrorCode:
    """The error codes of Orthanc."""

    INTERNAL_ERROR = -1
    SUCCESS = 0
    PLUGIN = 1
    NOT_IMPLEMENTED = 2
    PARAMETER_OUT_OF_RANGE = 3
    NOT_ENOUGH_MEMORY = 4
    BAD_PARAMETER_TYPE = 5
    BAD_SEQUENCE_OF_CALLS = 6
    INEXISTENT_ITEM = 7
    BAD_REQUEST = 8
    NETWORK_PROTOCOL = 9
    SYSTEM_COMMAND = 10
    DATABASE = 11
    URI_SYNTAX = 12
    INEXISTENT_FILE = 13
    CANNOT_WRITE_FILE = 14
    BAD_FILE_FORMAT = 15
    TIMEOUT = 16
    UNKNOWN_RESOURCE = 17
    INCOMPATIBLE_DATABASE_VERSION = 18
    FULL_STORAGE = 19
    CORRUPTED_FILE = 20
    INEXISTENT_TAG = 21
    READ_ONLY = 22
    INCOMPATIBLE_IMAGE_FORMAT = 23
    INCOMPATIBLE_IMAGE_SIZE = 24
    SHARED_LIBRARY = 25
    UNKNOWN_PLUGIN_SERVICE = 26
    UNKNOWN_DICOM_TAG = 27
    BAD_JSON = 28
    UNAUTHORIZED = 29
    BAD_FONT = 30
    DATABASE_PLUGIN = 31
    STORAGE_AREA_PLUGIN = 32
    EMPTY_REQUEST = 33
    NOT_ACCEPTABLE = 34
    NULL_POINTER = 35
    DATABASE_UNAVAILABLE = 36
    CANCELED_JOB = 37
    BAD_GEOMETRY = 38
    SSL_INITIALIZATION = 39
    DISCONTINUED_ABI = 40
    BAD_RANGE = 41
    DATABASE_CANNOT_SERIALIZE = 42
    REVISION = 43
    SQLITE_NOT_OPENED = 1000
    SQLITE_ALREADY_OPENED = 1001
    SQLITE_CANNOT_OPEN = 1002
    SQLITE_STATEMENT_ALREADY_USED = 1003
    SQLITE_EXECUTE = 1004
    SQLITE_ROLLBACK_WITHOUT_TRANSACTION = 1005
    SQLITE_COMMIT_WITHOUT_TRANSACTION = 1006
    SQLITE_REGISTER_FUNCTION = 1007
    SQLITE_FLUSH = 1008
    SQLITE_CANNOT_RUN = 1009
    SQLITE_CANNOT_STEP = 1010
    SQLITE_BIND_OUT_OF_RANGE = 1011
    SQLITE_PREPARE_STATEMENT = 1012
    SQLITE_TRANSACTION_ALREADY_STARTED = 1013
    SQLITE_TRANSACTION_COMMIT = 1014
    SQLITE_TRANSACTION_BEGIN = 1015
    DIRECTORY_OVER_FILE = 2000
    FILE_STORAGE_CANNOT_WRITE = 2001
    DIRECTORY_EXPECTED = 2002
    HTTP_PORT_IN_USE = 2003
    DICOM_PORT_IN_USE = 2004
    BAD_HTTP_STATUS_IN_REST = 2005
    REGULAR_FILE_EXPECTED = 2006
    PATH_TO_EXECUTABLE = 2007
    MAKE_DIRECTORY = 2008
    BAD_APPLICATION_ENTITY_TITLE = 2009
    NO_CFIND_HANDLER = 2010
    NO_CMOVE_HANDLER = 2011
    NO_CSTORE_HANDLER = 2012
    NO_APPLICATION_ENTITY_FILTER = 2013
    NO_SOP_CLASS_OR_INSTANCE = 2014
    NO_PRESENTATION_CONTEXT = 2015
    DICOM_FIND_UNAVAILABLE = 2016
    DICOM_MOVE_UNAVAILABLE = 2017
    CANNOT_STORE_INSTANCE = 2018
    CREATE_DICOM_NOT_STRING = 2019
    CREATE_DICOM_OVERRIDE_TAG = 2020
    CREATE_DICOM_USE_CONTENT = 2021
    CREATE_DICOM_NO_PAYLOAD = 2022
    CREATE_DICOM_USE_DATA_URI_SCHEME = 2023
    CREATE_DICOM_BAD_PARENT = 2024
    CREATE_DICOM_PARENT_IS_INSTANCE = 2025
    CREATE_DICOM_PARENT_ENCODING = 2026
    UNKNOWN_MODALITY = 2027
    BAD_JOB_ORDERING = 2028
    JSON_TO_LUA_TABLE = 2029
    CANNOT_CREATE_LUA = 2030
    CANNOT_EXECUTE_LUA = 2031
    LUA_ALREADY_EXECUTED = 2032
    LUA_BAD_OUTPUT = 2033
    NOT_LUA_PREDICATE = 2034
    LUA_RETURNS_NO_STRING = 2035
    STORAGE_AREA_ALREADY_REGISTERED = 2036
    DATABASE_BACKEND_ALREADY_REGISTERED = 2037
    DATABASE_NOT_INITIALIZED = 2038
    SSL_DISABLED = 2039
    CANNOT_ORDER_SLICES = 2040
    NO_WORKLIST_HANDLER = 2041
    ALREADY_EXISTING_TAG = 2042
    NO_STORAGE_COMMITMENT_HANDLER = 2043
    NO_CGET_HANDLER = 2044
    UNSUPPORTED_MEDIA_TYPE = 3000


DESCRIPTIONS = {
    ErrorCode.INTERNAL_ERROR: "Internal error",
    ErrorCode.SUCCESS: "Success",
    ErrorCode.PLUGIN: "Error encountered within the plugin engine",
    ErrorCode.NOT_IMPLEMENTED: "Not implemented yet",
    ErrorCode.PARAMETER_OUT_OF_RANGE: "Parameter out of range",
    ErrorCode.NOT_ENOUGH_MEMORY: "The server hosting Orthanc is running out of memory",
    ErrorCode.BAD_PARAMETER_TYPE: "Bad type for a parameter",
    ErrorCode.BAD_SEQUENCE_OF_CALLS: "Bad sequence of calls",
    ErrorCode.INEXISTENT_ITEM: "Accessing an inexistent item",
    ErrorCode.BAD_REQUEST: "Bad request",
    ErrorCode.NETWORK_PROTOCOL: "Error in the network protocol",
    ErrorCode.SYSTEM_COMMAND: "Error while calling a system command",
    ErrorCode.DATABASE: "Error with the database engine",
    ErrorCode.URI_SYNTAX: "Badly formatted URI",
    ErrorCode.INEXISTENT_FILE: "Inexistent file",
    ErrorCode.CANNOT_WRITE_FILE: "Cannot write to file",
    ErrorCode.BAD_FILE_FORMAT: "Bad file format",
    ErrorCode.TIMEOUT: "Timeout",
    ErrorCode.UNKNOWN_RESOURCE: "Unknown resource",
    ErrorCode.INCOMPATIBLE_DATABASE_VERSION: "Incompatible version of the database",
    ErrorCode.FULL_STORAGE: "The file storage is full",
    ErrorCode.CORRUPTED_FILE: "Corrupted file (e.g. inconsistent MD5 hash)",
    ErrorCode.INEXISTENT_TAG: "Inexistent tag",
    ErrorCode.READ_ONLY: "Cannot modify a read-only data structure",
    ErrorCode.INCOMPATIBLE_IMAGE_FORMAT: "Incompatible format of the images",
    ErrorCode.INCOMPATIBLE_IMAGE_SIZE: "Incompatible size of the images",
    ErrorCode.SHARED_LIBRARY: "Error while using a shared library (plugin)",
    ErrorCode.UNKNOWN_PLUGIN_SERVICE: "Plugin invoking an unknown service",
    ErrorCode.UNKNOWN_DICOM_TAG: "Unknown DICOM tag",
    ErrorCode.BAD_JSON: "Cannot parse a JSON document",
    ErrorCode.UNAUTHORIZED: "Bad credentials were provided to an HTTP request",
    ErrorCode.BAD_FONT: "Badly formatted font file",
    ErrorCode.DATABASE_PLUGIN: (
        "The plugin implementing a custom database back-end does not fulfill the proper interface"
    ),
    ErrorCode.STORAGE_AREA_PLUGIN: "Error in the plugin implementing a custom storage area",
    ErrorCode.EMPTY_REQUEST: "The request is empty",
    ErrorCode.NOT_ACCEPTABLE: "Cannot send a response which is acceptable according to the Accept HTTP header",
    ErrorCode.NULL_POINTER: "Cannot handle a NULL pointer",
    ErrorCode.DATABASE_UNAVAILABLE: "The database is currently not available (probably a transient situation)",
    ErrorCode.CANCELED_JOB: "This job was canceled",
    ErrorCode.BAD_GEOMETRY: "Geometry error encountered in Stone",
    ErrorCode.SSL_INITIALIZATION: "Cannot initialize SSL encryption, check out your certificates",
    ErrorCode.DISCONTINUED_ABI: "Calling a function that has been removed from the Orthanc Framework",
    ErrorCode.BAD_RANGE: "Incorrect range request",
    ErrorCode.DATABASE_CANNOT_SERIALIZE: (
        "Database could not serialize access due to concurrent update, the transaction should be retried"
    ),
    ErrorCode.REVISION: "A bad revision number was provided, which might indicate conflict between multiple writers",
    ErrorCode.SQLITE_NOT_OPENED: "SQLite: The database is not opened",
    ErrorCode.SQLITE_ALREADY_OPENED: "SQLite: Connection is already open",
    ErrorCode.SQLITE_CANNOT_OPEN: "SQLite: Unable to open the database",
    ErrorCode.SQLITE_STATEMENT_ALREADY_USED: "SQLite: This cached statement is already being referred to",
    ErrorCode.SQLITE_EXECUTE: "SQLite: Cannot execute a command",
    ErrorCode.SQLITE_ROLLBACK_WITHOUT_TRANSACTION: (
        "SQLite: Rolling back a nonexistent transaction (have you called Begin()?)"
    ),
    ErrorCode.SQLITE_COMMIT_WITHOUT_TRANSACTION: "SQLite: Committing a nonexistent transaction",
    ErrorCode.SQLITE_REGISTER_FUNCTION: "SQLite: Unable to register a function",
    ErrorCode.SQLITE_FLUSH: "SQLite: Unable to flush the database",
    ErrorCode.SQLITE_CANNOT_RUN: "SQLite: Cannot run a cached statement",
    ErrorCode.SQLITE_CANNOT_STEP: "SQLite: Cannot step over a cached statement",
    ErrorCode.SQLITE_BIND_OUT_OF_RANGE: "SQLite: Bing a value while out of range (serious error)",
    ErrorCode.SQLITE_PREPARE_STATEMENT: "SQLite: Cannot prepare a cached statement",
    ErrorCode.SQLITE_TRANSACTION_ALREADY_STARTED: "SQLite: Beginning the same transaction twice",
    ErrorCode.SQLITE_TRANSACTION_COMMIT: "SQLite: Failure when committing the transaction",
    ErrorCode.SQLITE_TRANSACTION_BEGIN: "SQLite: Cannot start a transaction",
    ErrorCode.DIRECTORY_OVER_FILE: "The directory to be created is already occupied by a regular file",
    ErrorCode.FILE_STORAGE_CANNOT_WRITE: "Unable to create a subdirectory or a file in the file storage",
    ErrorCode.DIRECTORY_EXPECTED: "The specified path does not point to a directory",
    ErrorCode.HTTP_PORT_IN_USE: "The TCP port of the HTTP server is privileged or already in use",
    ErrorCode.DICOM_PORT_IN_USE: "The TCP port of the DICOM server is privileged or already in use",
    ErrorCode.BAD_HTTP_STATUS_IN_REST: "This HTTP status is not allowed in a REST API",
    ErrorCode.REGULAR_FILE_EXPECTED: "The specified path does not point to a regular file",
    ErrorCode.PATH_TO_EXECUTABLE: "Unable to get the path to the executable",
    ErrorCode.MAKE_DIRECTORY: "Cannot create a directory",
    ErrorCode.BAD_APPLICATION_ENTITY_TITLE: (
        "An application entity title (AET) cannot be empty or be longer than 16 characters"
    ),
    ErrorCode.NO_CFIND_HANDLER: "No request handler factory for DICOM C-FIND SCP",
    ErrorCode.NO_CMOVE_HANDLER: "No request handler factory for DICOM C-MOVE SCP",
    ErrorCode.NO_CSTORE_HANDLER: "No request handler factory for DICOM C-STORE SCP",
    ErrorCode.NO_APPLICATION_ENTITY_FILTER: "No application entity filter",
    ErrorCode.NO_SOP_CLASS_OR_INSTANCE: "DicomUserConnection: Unable to find the SOP class and instance",
    ErrorCode.NO_PRESENTATION_CONTEXT: "DicomUserConnection: No acceptable presentation context for modality",
    ErrorCode.DICOM_FIND_UNAVAILABLE: "DicomUserConnection: The C-FIND command is not supported by the remote SCP",
    ErrorCode.DICOM_MOVE_UNAVAILABLE: "DicomUserConnection: The C-MOVE command is not supported by the remote SCP",
    ErrorCode.CANNOT_STORE_INSTANCE: "Cannot store an instance",
    ErrorCode.CREATE_DICOM_NOT_STRING: "Only string values are supported when creating DICOM instances",
    ErrorCode.CREATE_DICOM_OVERRIDE_TAG: "Trying to override a value inherited from a parent module",
    ErrorCode.CREATE_DICOM_USE_CONTENT: 'Use "Content" to inject an image into a new DICOM instance',
    ErrorCode.CREATE_DICOM_NO_PAYLOAD: "No payload is present for one instance in the series",
    ErrorCode.CREATE_DICOM_USE_DATA_URI_SCHEME: (
        "The payload of the DICOM instance must be specified according to Data URI scheme"
    ),
    ErrorCode.CREATE_DICOM_BAD_PARENT: "Trying to attach a new DICOM instance to an inexistent resource",
    ErrorCode.CREATE_DICOM_PARENT_IS_INSTANCE: (
        "Trying to attach a new DICOM instance to an instance (must be a series, study or patient)"
    ),
    ErrorCode.CREATE_DICOM_PARENT_ENCODING: "Unable to get the encoding of the parent resource",
    ErrorCode.UNKNOWN_MODALITY: "Unknown modality",
    ErrorCode.BAD_JOB_ORDERING: "Bad ordering of filters in a job",
    ErrorCode.JSON_TO_LUA_TABLE: "Cannot convert the given JSON object to a Lua table",
    ErrorCode.CANNOT_CREATE_LUA: "Cannot create the Lua context",
    ErrorCode.CANNOT_EXECUTE_LUA: "Cannot execute a Lua command",
    ErrorCode.LUA_ALREADY_EXECUTED: "Arguments cannot be pushed after the Lua function is executed",
    ErrorCode.LUA_BAD_OUTPUT: "The Lua function does not give the expected number of outputs",
    ErrorCode.NOT_LUA_PREDICATE: "The Lua function is not a predicate (only true/false outputs allowed)",
    ErrorCode.LUA_RETURNS_NO_STRING: "The Lua function does not return a string",
    ErrorCode.STORAGE_AREA_ALREADY_REGISTERED: "Another plugin has already registered a custom storage area",
    ErrorCode.DATABASE_BACKEND_ALREADY_REGISTERED: "Another plugin has already registered a custom database back-end",
    ErrorCode.DATABASE_NOT_INITIALIZED: "Plugin trying to call the database during its initialization",
    ErrorCode.SSL_DISABLED: "Orthanc has been built without SSL support",
    ErrorCode.CANNOT_ORDER_SLICES: "Unable to order the slices of the series",
    ErrorCode.NO_WORKLIST_HANDLER: "No request handler factory for DICOM C-Find Modality SCP",
    ErrorCode.ALREADY_EXISTING_TAG: "Cannot override the value of a tag that already exists",
    ErrorCode.NO_STORAGE_COMMITMENT_HANDLER: "No request handler factory for DICOM N-ACTION SCP (storage commitment)",
    ErrorCode.NO_CGET_HANDLER: "No request handler factory for DICOM C-GET SCP",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "Unsupported media type",
}
"""The descriptions of Orthanc, word for word: plugins compare them."""


def describe(code: int) -> str:
    """Return the description of an error code."""
    return DESCRIPTIONS.get(code, "Unknown error code")


def failure(code: int) -> OrthancException:
    """Return the exception for an error code."""
    return OrthancException(code, DESCRIPTIONS[code])
