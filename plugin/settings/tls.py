"""Make the TLS contexts of all servers and clients of the node, by PS3.15 B.12 (BCP 195: RFC 8996 and RFC 9325)."""

import ssl
from pathlib import Path

from pipeline.errors import SettingsWrong
from plugin.settings.sections import HttpSettings
from plugin.settings.values import TlsClient, TlsIdentity

# RFC 9325 4.2: what is recommended for TLS 1.2. OpenSSL offers the suites of TLS 1.3 beside these.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)
_NO_PASSWORD = ""
"""For keys: one that has a password is an error, where OpenSSL would ask the terminal."""


def server_context(identity: TlsIdentity, name: str, client_ca: str = "") -> ssl.SSLContext | None:
    """Return the context of a server; None where it has no certificate and so speaks plain TCP.

    With `client_ca` clients need a certificate from one of its authorities. `name` is the section's name in messages.
    Raises SettingsWrong.
    """
    if not identity.tls_certificate:
        return None
    context = _restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _load_identity(context, identity, name)
    if client_ca:
        _load_authorities(context, client_ca, f"{name}.tls_client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(section: TlsClient, name: str) -> ssl.SSLContext | None:
    """Return the context for connections to what a section describes; None where the node speaks plain TCP there.

    Raises SettingsWrong.
    """
    return make_client_context(section.tls_ca, f"{name}.tls_ca", section, name) if section.over_tls else None


def archive_context(http: HttpSettings) -> ssl.SSLContext | None:
    """Return the context for connections to another host's archive; None for plain TCP. Raises SettingsWrong."""
    if not http.archive_url.startswith("https:"):
        return None
    return make_client_context(http.archive_tls_ca, "http.archive_tls_ca")


def make_client_context(
    authorities: str, authorities_key: str, identity: TlsIdentity | None = None, name: str = ""
) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and name, and shows `identity` where it has a certificate.

    `authorities` is a PEM file; empty: those that the system trusts. Raises SettingsWrong.
    """
    context = _restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if authorities:
        _load_authorities(context, authorities, authorities_key)
    else:
        context.load_default_certs()
    if identity is not None and identity.tls_certificate:
        _load_identity(context, identity, name)
    return context


def read_pem(path: str) -> str:
    """Return the text of a PEM file. Raises SettingsWrong."""
    try:
        return Path(path).expanduser().read_text(encoding="ascii", errors="replace")
    except OSError as exc:
        raise SettingsWrong(f"{path} cannot be read: {exc.strerror}.") from exc


def _restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load_identity(context: ssl.SSLContext, identity: TlsIdentity, name: str) -> None:
    certificate, key = identity.tls_certificate, identity.tls_key
    for path in (certificate, key):
        read_pem(path)
    try:
        context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser(), password=_NO_PASSWORD)
    except ssl.SSLError as exc:
        why = (
            "the key does not belong to the certificate"
            if exc.reason == "KEY_VALUES_MISMATCH"
            else "certificate or key is not in PEM form, or the key has a password"
        )
        raise SettingsWrong(f"{name}: {why} ({certificate}, {key}).") from exc


def _load_authorities(context: ssl.SSLContext, authorities: str, key: str) -> None:
    text = read_pem(authorities)
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as exc:
        raise SettingsWrong(f"{key}: {authorities} holds no certificates in PEM form.") from exc
