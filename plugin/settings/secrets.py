"""What a destination, or the archive, wants to be told before it listens: read from where the settings say, when it is
needed, and shown to nobody else. The settings hold places, never secrets, so that they can be printed and copied.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import SettingsWrong
from plugin.settings.check import Finding, Severity
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.sections import HttpSettings, OrthancSettings, Settings

_LARGEST_BYTES = 1 << 16
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Credentials:
    """A bearer token, or a user with a password, or nothing."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)


def credentials_of(destination: StowDestinationSettings) -> Credentials:
    """Read what a destination is to be told. Raises SettingsWrong, which names the place and never its content."""
    place = f"destinations.{destination.name}"
    if destination.user:
        password = _secret(f"{place}.password", destination.password_file, destination.password_variable)
        return Credentials(user=destination.user, password=password)
    if destination.token_file or destination.token_variable:
        return Credentials(token=_secret(f"{place}.token", destination.token_file, destination.token_variable))
    return Credentials()


def orthanc_credentials(orthanc: OrthancSettings) -> Credentials:
    """Read what Orthanc is to be told. Raises SettingsWrong, which names the place and never its content."""
    if not orthanc.user:
        return Credentials()
    return Credentials(
        user=orthanc.user, password=_secret("orthanc.password", orthanc.password_file, orthanc.password_variable)
    )


def http_token(http: HttpSettings) -> str:
    """The token that opens the archive over HTTP; empty where the settings name none. Raises SettingsWrong."""
    if not (http.token_file or http.token_variable):
        return ""
    token = _secret("http.token", http.token_file, http.token_variable)
    if len(token) < _SHORTEST_TOKEN or not token.isascii():
        raise SettingsWrong(
            f"http.token has less than {_SHORTEST_TOKEN} characters, or others than ASCII's; `openssl rand -hex 32` "
            "makes a good one."
        )
    return token


def check_credentials(settings: Settings) -> Iterator[Finding]:
    """Secrets that are not where the settings say, or lie open to every user of this machine."""
    try:
        http_token(settings.http)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "http", str(exc))
    else:
        yield from _open_files("http", token_file=settings.http.token_file)
    try:
        orthanc_credentials(settings.orthanc)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "orthanc", str(exc))
    else:
        yield from _open_files("orthanc", password_file=settings.orthanc.password_file)
    for destination in settings.destinations:
        if not isinstance(destination, StowDestinationSettings):
            continue
        place = f"destinations.{destination.name}"
        try:
            credentials_of(destination)
        except SettingsWrong as exc:
            yield Finding(Severity.ERROR, place, str(exc))
        else:
            files = {"token_file": destination.token_file, "password_file": destination.password_file}
            yield from _open_files(place, **files)


def _open_files(place: str, **files: str) -> Iterator[Finding]:
    for key, file in files.items():
        if file and Path(file).expanduser().stat().st_mode & 0o044:
            text = f"Others may read {file}; take that from them with chmod 600."
            yield Finding(Severity.WARNING, f"{place}.{key}", text)


def _secret(key: str, file: str, variable: str) -> str:
    if variable:
        text, where = os.environ.get(variable, ""), f"the environment variable {variable}"
    else:
        where = f"the file {file}"
        try:
            with Path(file).expanduser().open(encoding="utf-8") as opened:
                text = opened.read(_LARGEST_BYTES)
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise SettingsWrong(f"{key} cannot be read from {where}: {why}.") from exc
    text = text.strip()
    if not text or not text.isprintable():
        raise SettingsWrong(f"{key}: {where} holds none; it is one line of text.")
    return text
