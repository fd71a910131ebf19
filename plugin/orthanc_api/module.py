"""Build the module `orthanc` that a hosted plugin imports: its functions, enumerations and classes.

Unsupported functions exist by name; they raise OrthancException with NOT_IMPLEMENTED, and the log names them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from plugin.orthanc_api.callbacks import Callbacks
from plugin.orthanc_api.dicom_functions import DicomFunctions
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.enums import ENUMERATIONS
from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure
from plugin.orthanc_api.host_functions import HostFunctions
from plugin.orthanc_api.instance import DicomInstance
from plugin.orthanc_api.rest_functions import RestFunctions
from plugin.orthanc_api.rest_output import RestOutput
from plugin.orthanc_api.router import RestApi

_LOG = logging.getLogger(__name__)

UNSUPPORTED = (
    *("AutodetectMimeType", "BufferCompression", "CompressJpegImage", "CompressPngImage", "CreateFindMatcher"),
    *("CreateImage", "CreateImageFromBuffer", "CreateMemoryBuffer", "DecodeDicomImage"),
    *("GenerateRestApiAuthorizationToken", "GetFontName", "GetFontSize", "GetPeers"),
    *("HttpDelete", "HttpGet", "HttpPost", "HttpPut", "RegisterDictionaryTag", "RegisterErrorCode"),
    *("RegisterFindCallback", "RegisterIncomingCStoreInstanceFilter", "RegisterMoveCallback"),
    *("RegisterPrivateDictionaryTag", "RegisterReceivedInstanceCallback", "RegisterStorageArea"),
    *("RegisterWorklistCallback", "TranscodeDicomInstance", "UncompressImage"),
)
"""Functions of orthanc-python that are not supported."""
UNSUPPORTED_CLASSES = (
    *("DicomWebNode", "FindAnswers", "FindMatcher", "FindQuery", "Image", "Job", "Peers"),
    *("ServerChunkedRequestReader", "StorageArea", "WorklistAnswers", "WorklistQuery"),
)
"""Classes of orthanc-python that are not supported."""


def orthanc_module(host: EmbeddedHost, rest: RestApi, callbacks: Callbacks, script: Path) -> ModuleType:
    """Return the module, to be put into sys.modules as `orthanc` before a script is loaded."""
    module = ModuleType("orthanc")
    for functions in (RestFunctions(rest, callbacks), DicomFunctions(host), HostFunctions(host, script)):
        for name in dir(functions):
            if name[0].isupper():
                setattr(module, name, getattr(functions, name))
    for each in (*ENUMERATIONS, ErrorCode, OrthancException, DicomInstance, RestOutput):
        setattr(module, each.__name__, each)
    for name in UNSUPPORTED:
        setattr(module, name, _not_implemented(name))
    for name in UNSUPPORTED_CLASSES:
        setattr(module, name, type(name, (), {"__doc__": "Not supported."}))
    return module


def _not_implemented(name: str) -> Callable[..., Any]:
    def refuse(*_arguments: object) -> None:
        _LOG.error("the hosted plugin calls orthanc.%s, which the node does not support", name)
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    refuse.__name__ = name
    return refuse
