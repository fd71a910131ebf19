"""Functions of the module `orthanc` about the host: properties, metrics, logs, configuration, versions, files."""

import hashlib
import json
import logging
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from plugin.orthanc_api import errors
from plugin.orthanc_api.arguments import as_bytes, as_text
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.levels import format_sha1

_LOG = logging.getLogger(__name__)

_FIRST_PROPERTY = 1024
_VERSION = (1, 10, 1)
_DATABASE_VERSION = 6


@dataclass(frozen=True, slots=True)
class HostFunctions:
    """The functions by their names in orthanc-python; arguments are positional, as there."""

    host: EmbeddedHost
    script: Path

    def GetGlobalProperty(self, number: int, default: str, /) -> str:
        """Return a global property, or `default` where it is not set."""
        value = self.host.store.property(number)
        return as_text(default) if value is None else value

    def SetGlobalProperty(self, number: int, value: str, /) -> None:
        """Set a global property. Raises OrthancException for numbers below 1024."""
        if number < _FIRST_PROPERTY:
            raise failure(ErrorCode.UNKNOWN_PLUGIN_SERVICE)
        self.host.store.set_property(number, as_text(value))

    def SetMetricsValue(self, name: str, value: float, _kind: int, /) -> None:
        """Set a gauge, which the node's /metrics shows."""
        if not self.host.metrics.set(as_text(name), float(value)):
            _LOG.warning("a metric of the hosted plugin is not shown: its name is invalid, or there are too many")

    def LogInfo(self, message: str, /) -> None:
        """Write to the node's log. Its author is responsible for what a plugin logs, patient data included."""
        _LOG.info("%s", as_text(message))

    def LogWarning(self, message: str, /) -> None:
        """Write to the log; see LogInfo."""
        _LOG.warning("%s", as_text(message))

    def LogError(self, message: str, /) -> None:
        """Write to the log; see LogInfo."""
        _LOG.error("%s", as_text(message))

    def GetConfiguration(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(self.host.configuration, indent=3)

    def GetConfigurationPath(self) -> str:
        """Return the path of the configuration file; empty where there is none."""
        return str(self.host.configuration_path or "")

    def GetOrthancPath(self) -> str:
        """Return the path of the running program."""
        return sys.executable

    def GetOrthancDirectory(self) -> str:
        """Return the folder of the running program."""
        return str(Path(sys.executable).parent)

    def GetCommandLineArgumentsCount(self) -> int:
        """Return 1: only the plugin's own file is given as an argument."""
        return 1

    def GetCommandLineArgument(self, number: int, /) -> str:
        """Return the plugin's own file as argument 0."""
        if number != 0:
            raise failure(ErrorCode.INTERNAL_ERROR)
        return str(self.script)

    def GetExpectedDatabaseVersion(self) -> int:
        """Return the database version of Orthanc."""
        return _DATABASE_VERSION

    def GetFontsCount(self) -> int:
        """Return 0: the node has no fonts."""
        return 0

    def CheckVersion(self) -> int:
        """Return 1: the API is that of the version that the plugin expects."""
        return 1

    def CheckVersionAdvanced(self, major: int, minor: int, revision: int, /) -> int:
        """Return 1 if this version is at least the given one, else 0."""
        return int((major, minor, revision) <= _VERSION)

    def ComputeMd5(self, content: bytes, /) -> str:
        """Return the MD5 in hexadecimal digits."""
        return hashlib.md5(as_bytes(content), usedforsecurity=False).hexdigest()

    def ComputeSha1(self, content: bytes, /) -> str:
        """Return the SHA-1 in the form of Orthanc's identifiers."""
        return format_sha1(as_bytes(content))

    def GenerateUuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def GetErrorDescription(self, code: int, /) -> str:
        """Return the description of an ErrorCode."""
        return errors.describe(code)

    def ReadFile(self, path: str, /) -> bytes:
        """Return the content of a file of this machine. Raises OrthancException."""
        try:
            return Path(as_text(path)).read_bytes()
        except OSError as exc:
            raise failure(ErrorCode.REGULAR_FILE_EXPECTED) from exc

    def WriteFile(self, path: str, content: bytes, /) -> None:
        """Write a file of this machine. Raises OrthancException."""
        try:
            Path(as_text(path)).write_bytes(as_bytes(content))
        except OSError as exc:
            raise failure(ErrorCode.CANNOT_WRITE_FILE) from exc
