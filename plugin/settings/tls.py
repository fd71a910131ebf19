"""TLS by PS3.15 B.12 (BCP 195: RFC 8996 and RFC 9325), for servers and clients of all kinds; reads PEM files."""

import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import SettingsWrong
from plugin.settings.destinations import AnyDestination, DestinationSettings, OrthancDestinationSettings
from plugin.settings.sections import HttpSettings, ListenerSettings, OrthancSettings

# RFC 9325 4.2: what is recommended for TLS 1.2. OpenSSL offers the suites of TLS 1.3 beside these.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)
_NO_PASSWORD = ""
"""For keys: one that has a password is an error, where OpenSSL would ask the terminal."""

_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# X.690 8.1: identifier octets of the elements on the way to a certificate's validity (RFC 5280 4.1).
_VERSION, _UTC_TIME = 0xA0, 0x17


class _ClosedInAnyCase(ssl.SSLSocket):
    """A socket that pynetdicom closes also after a failed handshake: it forgets to where shutdown raises."""

    def shutdown(self, how: int) -> None:
        with suppress(OSError):
            super().shutdown(how)


def listener_context(settings: ListenerSettings) -> ssl.SSLContext | None:
    """What the listener speaks, None where it speaks plain TCP. Raises SettingsWrong."""
    if not settings.tls_certificate:
        return None
    context = _modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _identify(context, settings.tls_certificate, settings.tls_key, "listener")
    if settings.tls_client_ca:
        _trust(context, settings.tls_client_ca, "listener.tls_client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def destination_context(destination: AnyDestination) -> ssl.SSLContext | None:
    """What a destination is spoken to in, None for plain TCP. Its certificate and name are checked.

    Raises SettingsWrong.
    """
    if isinstance(destination, OrthancDestinationSettings):
        return None  # it is the [orthanc] that is spoken to
    over_tls = destination.tls if isinstance(destination, DestinationSettings) else destination.url.startswith("https:")
    if not over_tls:
        return None
    place = f"destinations.{destination.name}"
    context = _client(destination.tls_ca, f"{place}.tls_ca")
    if destination.tls_certificate:
        _identify(context, destination.tls_certificate, destination.tls_key, place)
    return context


def report_context(settings: ListenerSettings) -> ssl.SSLContext:
    """What a sender is spoken to in that takes reports over TLS: the listener's own identity. Raises SettingsWrong."""
    context = _client(settings.tls_client_ca, "listener.tls_client_ca")
    if settings.tls_certificate:
        _identify(context, settings.tls_certificate, settings.tls_key, "listener")
    return context


def _client(authorities: str, key: str) -> ssl.SSLContext:
    context = _modern(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.sslsocket_class = _ClosedInAnyCase
    if authorities:
        _trust(context, authorities, key)
    else:
        context.load_default_certs()
    return context


def http_server_context(http: HttpSettings) -> ssl.SSLContext | None:
    """What HTTP is served in, None for plain TCP. Raises SettingsWrong."""
    if not http.tls_certificate:
        return None
    context = _modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _identify(context, http.tls_certificate, http.tls_key, "http")
    return context


def archive_context(http: HttpSettings) -> ssl.SSLContext | None:
    """What the archive of another host is asked in, None for plain TCP. Raises SettingsWrong."""
    if not http.archive_url.startswith("https:"):
        return None
    return _client(http.archive_tls_ca, "http.archive_tls_ca")


def orthanc_context(orthanc: OrthancSettings) -> ssl.SSLContext | None:
    """What the Orthanc beside the node is spoken to in, None for plain TCP. Raises SettingsWrong."""
    if not orthanc.url.startswith("https:"):
        return None
    context = _client(orthanc.tls_ca, "orthanc.tls_ca")
    if orthanc.tls_certificate:
        _identify(context, orthanc.tls_certificate, orthanc.tls_key, "orthanc")
    return context


def expires_at(certificate: str) -> datetime:
    """When the first certificate of a PEM file expires. Raises SettingsWrong."""
    found = _PEM_CERTIFICATE.search(_read(certificate))
    if found is None:
        raise SettingsWrong(f"{certificate} holds no certificate in PEM form.")
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except (ValueError, IndexError) as exc:
        raise SettingsWrong(f"{certificate} holds a certificate that does not parse.") from exc


def _modern(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _identify(context: ssl.SSLContext, certificate: str, key: str, place: str) -> None:
    for path in (certificate, key):
        _read(path)
    try:
        context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser(), password=_NO_PASSWORD)
    except ssl.SSLError as exc:
        why = (
            "the key does not belong to the certificate"
            if exc.reason == "KEY_VALUES_MISMATCH"
            else "certificate or key is not in PEM form, or the key has a password"
        )
        raise SettingsWrong(f"{place}: {why} ({certificate}, {key}).") from exc


def _trust(context: ssl.SSLContext, authorities: str, key: str) -> None:
    text = _read(authorities)
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as exc:
        raise SettingsWrong(f"{key}: {authorities} holds no certificates in PEM form.") from exc


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="ascii", errors="replace")
    except OSError as exc:
        raise SettingsWrong(f"{path} cannot be read: {exc.strerror}.") from exc


def _not_after(der: bytes) -> datetime:
    """The end of a certificate's validity. The standard library shows it only of authorities' certificates."""
    certificate = _element(der, 0)[1]
    content = _element(certificate, 0)[1]
    position = 0
    # [version], serialNumber, signature, issuer stand before validity; the version may be left out.
    for _ in range(4 if content[0] == _VERSION else 3):
        position = _element(content, position)[2]
    validity = _element(content, position)[1]
    tag, text, _ = _element(validity, _element(validity, 0)[2])
    # RFC 5280 4.1.2.5: years of two digits up to 2049, in strptime's own sense from 69 on 19xx; of four from 2050 on.
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)


def _element(der: bytes, position: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the DER element (X.690 8.1) at a position."""
    length, start = der[position + 1], position + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[position + 2 : start], "big")
    if start + length > len(der):
        raise ValueError("it ends too early")
    return der[position], der[start : start + length], start + length
