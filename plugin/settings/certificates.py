"""Check the certificates that the settings name: whether they load, and when they expire. Opens no connection."""

import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

from cryptography.x509 import load_pem_x509_certificate

from pipeline.errors import SettingsWrong
from plugin.settings.check import Finding, Severity
from plugin.settings.sections import Settings
from plugin.settings.tls import archive_context, client_context, read_pem, server_context
from plugin.settings.values import TlsClient


def check_certificates(settings: Settings, now: datetime) -> tuple[Finding, ...]:
    """Return an error for each file that is missing or does not fit, a warning for each that expires or has expired."""
    return tuple(finding for found in _findings(settings, now) for finding in found)


def _findings(settings: Settings, now: datetime) -> Iterator[Iterator[Finding]]:
    listener, http, orthanc = settings.listener, settings.http, settings.orthanc
    soon = now + timedelta(days=settings.alerts.certificate_days)
    make = partial(server_context, listener, "listener", listener.tls_client_ca)
    yield _check("listener", listener.tls_certificate, make, now, soon)
    yield _check("http", http.tls_certificate, partial(server_context, http, "http"), now, soon)
    yield _check("http", "", partial(archive_context, http), now, soon)
    yield _check("orthanc", orthanc.tls_certificate, partial(client_context, orthanc, "orthanc"), now, soon)
    for each in settings.destinations:
        if isinstance(each, TlsClient):
            yield _check(
                each.section_name, each.tls_certificate, partial(client_context, each, each.section_name), now, soon
            )


def _check(
    name: str, certificate: str, make: Callable[[], ssl.SSLContext | None], now: datetime, soon: datetime
) -> Iterator[Finding]:
    try:
        if make() is not None and certificate:
            yield from _expiry(f"{name}.tls_certificate", expires_at(certificate), now, soon)
    except SettingsWrong as exc:
        yield Finding(Severity.ERROR, name, str(exc))


def certificate_ends(settings: Settings) -> dict[str, datetime | None]:
    """Return when each certificate that the settings name expires, by its key; None where it cannot be read."""
    sections = {
        "listener": settings.listener,
        "http": settings.http,
        "orthanc": settings.orthanc,
        **{each.section_name: each for each in settings.destinations if isinstance(each, TlsClient)},
    }
    ends: dict[str, datetime | None] = {}
    for name, section in sections.items():
        if section.tls_certificate:
            try:
                ends[f"{name}.tls_certificate"] = expires_at(section.tls_certificate)
            except SettingsWrong:
                ends[f"{name}.tls_certificate"] = None
    return ends


def expires_at(certificate: str) -> datetime:
    """Return when the first certificate of a PEM file expires. Raises SettingsWrong."""
    try:
        return load_pem_x509_certificate(read_pem(certificate).encode()).not_valid_after_utc
    except ValueError as exc:
        raise SettingsWrong(f"{certificate} holds no certificate in PEM form, or one that does not parse.") from exc


def _expiry(key: str, end: datetime, now: datetime, soon: datetime) -> Iterator[Finding]:
    if end < now:
        yield Finding(Severity.WARNING, key, f"It expired on {end:%Y-%m-%d}; peers that check it will refuse it.")
    elif end < soon:
        yield Finding(Severity.WARNING, key, f"It expires on {end:%Y-%m-%d}.")
