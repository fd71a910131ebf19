"""What is wrong with the certificates that the settings name. Reads them; connects to nobody."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from pipeline.errors import SettingsWrong
from plugin.settings.check import Finding, Severity
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.sections import Settings
from plugin.settings.tls import (
    archive_context,
    destination_context,
    expires_at,
    http_server_context,
    listener_context,
    orthanc_context,
)

_SOON = timedelta(days=30)


def check_certificates(settings: Settings, now: datetime) -> tuple[Finding, ...]:
    """Files that are missing or do not fit each other are errors; what has expired, or soon will, is a warning."""
    return tuple(_findings(settings, now))


def _findings(settings: Settings, now: datetime) -> Iterator[Finding]:
    listener = settings.listener
    try:
        if listener_context(listener) is not None:
            yield from _expiry("listener.tls_certificate", listener.tls_certificate, now)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "listener", str(exc))
    try:
        archive_context(settings.http)
        if http_server_context(settings.http) is not None:
            yield from _expiry("http.tls_certificate", settings.http.tls_certificate, now)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "http", str(exc))
    try:
        if orthanc_context(settings.orthanc) is not None and settings.orthanc.tls_certificate:
            yield from _expiry("orthanc.tls_certificate", settings.orthanc.tls_certificate, now)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, "orthanc", str(exc))
    for destination in settings.destinations:
        if isinstance(destination, OrthancDestinationSettings):
            continue
        place = f"destinations.{destination.name}"
        try:
            destination_context(destination)
            if destination.tls_certificate:
                yield from _expiry(f"{place}.tls_certificate", destination.tls_certificate, now)
        except SettingsWrong as exc:
            yield Finding(Severity.ERROR, place, str(exc))


def _expiry(key: str, certificate: str, now: datetime) -> Iterator[Finding]:
    end = expires_at(certificate)
    if end < now:
        yield Finding(Severity.WARNING, key, f"It expired on {end:%Y-%m-%d}; peers that check it will refuse it.")
    elif end < now + _SOON:
        yield Finding(Severity.WARNING, key, f"It expires on {end:%Y-%m-%d}.")
