"""The functions of the module `orthanc` about the host: what plugins keep, count and log; its settings and versions."""

import hashlib
import json
import logging
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from plugin.orthanc_api import errors
from plugin.orthanc_api.arguments import content_of, text
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.levels import format_sha1

_LOG = logging.getLogger(__name__)

_FIRST_PROPERTY = 1024
_VERSION = (1, 10, 1)
_DATABASE_VERSION = 6


@dataclass(frozen=True, slots=True)
class PlainFunctions:
    """Each under the name that the module has it by; arguments are positional, as there."""

    host: EmbeddedHost
    script: Path

    def GetGlobalProperty(self, number: int, default: str, /) -> str:
        """What was kept under a number, `default` where nothing was."""
        kept = self.host.store.property(number)
        return text(default) if kept is None else kept

    def SetGlobalProperty(self, number: int, value: str, /) -> None:
        """Keep a text under a number, 1024 at least."""
        if number < _FIRST_PROPERTY:
            raise failure(ErrorCode.UNKNOWN_PLUGIN_SERVICE)
        self.host.store.set_property(number, text(value))

    def SetMetricsValue(self, name: str, value: float, _kind: int, /) -> None:
        """A gauge of the node's /metrics."""
        if not self.host.metrics.set(text(name), float(value)):
            _LOG.warning("a metric of the plugin is not shown: its name is none, or there are too many")

    def LogInfo(self, message: str, /) -> None:
        """To the node's log. What a plugin says there is its author's affair, patients' texts included."""
        _LOG.info("%s", text(message))

    def LogWarning(self, message: str, /) -> None:
        """See LogInfo."""
        _LOG.warning("%s", text(message))

    def LogError(self, message: str, /) -> None:
        """See LogInfo."""
        _LOG.error("%s", text(message))

    def GetConfiguration(self) -> str:
        """JSON."""
        return json.dumps(self.host.configuration, indent=3)

    def GetConfigurationPath(self) -> str:
        """The file of the settings for plugins; empty where there is none."""
        return str(self.host.configuration_path or "")

    def GetOrthancPath(self) -> str:
        """The program that runs."""
        return sys.executable

    def GetOrthancDirectory(self) -> str:
        """Its folder."""
        return str(Path(sys.executable).parent)

    def GetCommandLineArgumentsCount(self) -> int:
        """1: the node's own arguments are nothing that a plugin could read."""
        return 1

    def GetCommandLineArgument(self, number: int, /) -> str:
        """The plugin's own file."""
        if number != 0:
            raise failure(ErrorCode.INTERNAL_ERROR)
        return str(self.script)

    def GetExpectedDatabaseVersion(self) -> int:
        """As Orthanc's."""
        return _DATABASE_VERSION

    def GetFontsCount(self) -> int:
        """There are none."""
        return 0

    def CheckVersion(self) -> int:
        """1: what there is of the API is that of the version."""
        return 1

    def CheckVersionAdvanced(self, major: int, minor: int, revision: int, /) -> int:
        """Whether it is not older than this version: 1 or 0."""
        return int((major, minor, revision) <= _VERSION)

    def ComputeMd5(self, content: bytes, /) -> str:
        """In hexadecimal digits."""
        return hashlib.md5(content_of(content), usedforsecurity=False).hexdigest()

    def ComputeSha1(self, content: bytes, /) -> str:
        """In the form of Orthanc's identifiers."""
        return format_sha1(content_of(content))

    def GenerateUuid(self) -> str:
        """A random one."""
        return str(uuid.uuid4())

    def GetErrorDescription(self, code: int, /) -> str:
        """What an ErrorCode means."""
        return errors.describe(code)

    def ReadFile(self, path: str, /) -> bytes:
        """A file of the machine."""
        try:
            return Path(text(path)).read_bytes()
        except OSError as exc:
            raise failure(ErrorCode.REGULAR_FILE_EXPECTED) from exc

    def WriteFile(self, path: str, content: bytes, /) -> None:
        """A file of the machine."""
        try:
            Path(text(path)).write_bytes(content_of(content))
        except OSError as exc:
            raise failure(ErrorCode.CANNOT_WRITE_FILE) from exc
