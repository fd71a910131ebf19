"""Read the settings from their file and the environment. Error messages name the line of the file."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import SettingsWrong
from plugin.settings.destinations import KINDS_OF_DESTINATION
from plugin.settings.sections import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings


def load_settings(path: Path | None = None) -> Settings:
    """Return the settings of the file `path` (None: $GLIONODE_CONFIG, else no file) and the environment.

    Raises SettingsWrong, which names file, line and key, and says what to do.
    """
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path = Path(os.environ[CONFIG_VARIABLE])
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise SettingsWrong(f"The settings file {path} cannot be read: {why}.") from exc
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsWrong(f"{path} is not valid TOML: {exc}.") from exc
    _refuse_unknown_variables()
    try:
        settings = Settings(**document)
    except ValidationError as exc:
        raise SettingsWrong("\n".join(_explain(error, path, text) for error in exc.errors())) from exc
    except ValueError as exc:  # pydantic-settings: a variable that should hold JSON does not
        raise SettingsWrong(f"The environment cannot be read: {exc}. Lists are written as JSON.") from exc
    _refuse_repeated_destinations(settings)
    return settings


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores a variable with the prefix whose first part is no field, so a typing error would pass.
    sections = {name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section = variable.upper().removeprefix(ENVIRONMENT_PREFIX).split("__")[0]
        if section not in sections:
            raise SettingsWrong(
                f"The environment variable {variable} is no setting; sections are {', '.join(sorted(sections))}, and "
                "the key follows after two underscores, as in GLIONODE_LISTENER__PORT."
            )


def _refuse_repeated_destinations(settings: Settings) -> None:
    names = [destination.name for destination in settings.destinations]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsWrong(f"destinations: the name {repeated[0]} is used twice; give each destination its own name.")


def _explain(error: Any, path: Path | None, text: str) -> str:
    location = tuple(part for part in error["loc"] if part not in KINDS_OF_DESTINATION)
    key = ".".join(str(part) for part in location)
    where = "The environment"
    if path is not None:
        # A missing key has no line; its table has one.
        line = _line_of(text, location[:-1] if error["type"] == "missing" else location)
        where = f"{path}, line {line}" if line else f"{path} or the environment"
    if error["type"] == "extra_forbidden":
        return f"{where}: {key} is no setting of this version; see orthanc-config/glionode.toml for all settings."
    if error["type"] == "missing":
        return f"{where}: {key} is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {key}: {message}."


def _line_of(text: str, location: tuple[str | int, ...]) -> int | None:
    """Return the line of a key in TOML text, from 1, by its table and name; None where it is not found."""
    names = [part for part in location if isinstance(part, str)]
    wanted_index = next((part for part in location if isinstance(part, int)), None)
    table, index = "", -1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?", line)
        if header:
            table = header[2]
            index = index + 1 if header[1] == "[[" else -1
            if names == table.split(".") and wanted_index in (None, index):
                return number
            continue
        key = re.match(r"\s*\"?([\w-]+)\"?\s*=", line)
        if key and names == ([*table.split("."), key[1]] if table else [key[1]]) and wanted_index in (None, index):
            return number
    return None
