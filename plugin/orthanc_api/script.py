"""Load the script of a hosted plugin, and the configuration that it sees."""

import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pipeline.errors import SettingsWrong
from plugin.orthanc_api.resource_json import check_user_metadata
from plugin.orthanc_api.tags import Json
from plugin.settings.sections import Settings

_NAME = "orthanc"
_SCRIPT = "glionode_plugin_script"
# Orthanc's settings may have comments; strings come first, for what looks like a comment in them is none.
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PluginFiles:
    """The files of a plugin that the command line names."""

    script: Path
    configuration: Path | None = None
    """The configuration, in Orthanc's JSON."""


@contextmanager
def loaded_script(script: Path, orthanc: ModuleType) -> Iterator[None]:
    """Run a script that imports `orthanc`, and keep it loaded during the block.

    The script can import modules beside it. Raises SettingsWrong.
    """
    if _NAME in sys.modules:
        raise SettingsWrong("A module `orthanc` is loaded already; a process can host one plugin only.")
    spec = importlib.util.spec_from_file_location(_SCRIPT, script)
    if not script.is_file() or spec is None or spec.loader is None:
        raise SettingsWrong(f"--plugin: {script} is not a readable Python file.")
    module = importlib.util.module_from_spec(spec)
    folder = str(script.absolute().parent)
    sys.modules[_NAME] = orthanc
    sys.modules[_SCRIPT] = module
    sys.path.append(folder)  # last, so that no module there replaces one of the node
    try:
        try:
            spec.loader.exec_module(module)
        except Exception as exc:
            raise SettingsWrong(f"--plugin: {script} cannot be loaded: {_failure(exc, script)}.") from exc
        yield
    finally:
        del sys.modules[_NAME], sys.modules[_SCRIPT]
        sys.path.remove(folder)


def read_configuration(path: Path | None, settings: Settings) -> dict[str, Json]:
    """Return the configuration that the plugin sees: the file, with the node's own values for some keys.

    Raises SettingsWrong.
    """
    found: Json = {}
    if path is not None:
        try:
            found = json.loads(_COMMENT.sub(lambda match: match[1] or " ", path.read_text(encoding="utf-8")))
        except OSError as exc:
            raise SettingsWrong(f"--plugin-config: {path} cannot be read ({exc.strerror}).") from exc
        except ValueError as exc:
            raise SettingsWrong(f"--plugin-config: {path} is no JSON: {exc}.") from exc
        if not isinstance(found, dict):
            raise SettingsWrong(f"--plugin-config: {path} is no JSON object.")
        try:
            check_user_metadata(found.get("UserMetadata", {}))
        except ValueError as exc:
            raise SettingsWrong(f"--plugin-config: {path}: {exc}.") from exc
    own = {
        "DicomAet": settings.listener.ae_title,
        "DicomPort": settings.listener.port,
        "HttpPort": settings.http.port,
        "StableAge": settings.study.stable_after_s,
    }
    return {"Name": "", **found, **own}


def _failure(exc: Exception, script: Path) -> str:
    if isinstance(exc, SyntaxError):
        return f"{type(exc).__name__} at line {exc.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == str(script)]
    return f"{type(exc).__name__} at line {lines[-1] if lines else '?'} ({exc})"
