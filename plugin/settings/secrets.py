"""Read tokens and passwords from where the settings say, when they are needed, and check who else can read them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import SettingsWrong
from plugin.settings.check import Finding, Severity
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.sections import HttpSettings, Settings
from plugin.settings.values import Login, Token

_LARGEST_BYTES = 1 << 16
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Credentials:
    """A bearer token, or a user with a password, or nothing."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)


def read_credentials(section: Login, name: str) -> Credentials:
    """Read what a section names: its user's password, else its token, if it has one.

    Raises SettingsWrong, which names the place of the secret and never its content.
    """
    if section.user:
        password = _read_secret(f"{name}.password", section.password_file, section.password_variable)
        return Credentials(user=section.user, password=password)
    if isinstance(section, Token) and (section.token_file or section.token_variable):
        return Credentials(token=_read_secret(f"{name}.token", section.token_file, section.token_variable))
    return Credentials()


def read_http_token(http: HttpSettings) -> str:
    """Read the token that opens /api; empty where the settings name none. Raises SettingsWrong."""
    if not (http.token_file or http.token_variable):
        return ""
    token = _read_secret("http.token", http.token_file, http.token_variable)
    if len(token) < _SHORTEST_TOKEN or not token.isascii():
        raise SettingsWrong(
            f"http.token has less than {_SHORTEST_TOKEN} characters, or characters that are not ASCII; "
            "`openssl rand -hex 32` makes a good one."
        )
    return token


def check_credentials(settings: Settings) -> Iterator[Finding]:
    """Yield an error for each secret that cannot be read, a warning for each that other users of this machine can."""
    try:
        read_http_token(settings.http)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "http", str(exc))
    else:
        yield from _readable_by_others("http.token_file", settings.http.token_file)
    yield from _check_section(settings.orthanc, "orthanc")
    for destination in settings.destinations:
        if isinstance(destination, StowDestinationSettings):
            yield from _check_section(destination, destination.section_name)


def _check_section(section: Login, name: str) -> Iterator[Finding]:
    try:
        read_credentials(section, name)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, name, str(exc))
        return
    if isinstance(section, Token):
        yield from _readable_by_others(f"{name}.token_file", section.token_file)
    yield from _readable_by_others(f"{name}.password_file", section.password_file)


def _readable_by_others(key: str, file: str) -> Iterator[Finding]:
    if file and Path(file).expanduser().stat().st_mode & 0o044:
        yield Finding(Severity.WARNING, key, f"Other users can read {file}; change that with `chmod 600`.")


def _read_secret(key: str, file: str, variable: str) -> str:
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
        raise SettingsWrong(f"{key} cannot be used: {where} is empty or has more than one line of printable text.")
    return text
