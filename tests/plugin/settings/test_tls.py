"""TLS: protocol versions, who is accepted, checks of certificates. Certificates by OpenSSL, peers also by DCMTK."""

import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SettingsWrong
from plugin.delivery.deliverer import echo
from plugin.listener.refusals import read_refusals
from plugin.settings.certificates import check_certificates, expires_at
from plugin.settings.check import Severity
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import ListenerSettings, Settings
from plugin.settings.tls import server_context
from tests.support.certificates import Authority, Certificate
from tests.support.listener import ListenerWithArchive, MakeListener, associate_request, pdu, raw_connection, read_pdu
from tests.support.node import make_instance, new_study_uid, wait_until, write_instance

REFUSED = {"TLS handshake failed": 1}


@pytest.fixture
def authority(program: Callable[[str], str], tmp_path: Path) -> Authority:
    return Authority(program, tmp_path / "authority")


@pytest.fixture
def node(authority: Authority) -> Certificate:
    return authority.sign("node")


def speaks_as(certificate: Certificate) -> dict[str, str]:
    return {"tls_certificate": certificate.certificate, "tls_key": certificate.key}


def destination(listener: ListenerWithArchive, **tls: Any) -> DestinationSettings:
    values = {"name": "node", "ae_title": "GLIONODE", "host": "127.0.0.1", "port": listener.port, "tls": True}
    return DestinationSettings.model_validate({**values, **tls})


def shake_hands(port: int, authority: Authority, most: ssl.TLSVersion, ciphers: str = "ALL") -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.certificate)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = most
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        return str(connection.version())


@pytest.mark.parametrize(
    ("most", "ciphers", "expected"),
    [
        (ssl.TLSVersion.TLSv1_3, "ALL", "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA", None),
        (ssl.TLSVersion.TLSv1_1, "ALL", None),
    ],
    ids=["1.3", "1.2", "1.2 without GCM", "1.1"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_only_versions_and_ciphers_of_bcp_195_are_accepted(
    make_listener: MakeListener,
    authority: Authority,
    node: Certificate,
    most: ssl.TLSVersion,
    ciphers: str,
    expected: str | None,
) -> None:
    listener = make_listener(**speaks_as(node))
    if expected is not None:
        assert shake_hands(listener.port, authority, most, ciphers) == expected
        return
    with pytest.raises(ssl.SSLError):
        shake_hands(listener.port, authority, most, ciphers)
    wait_until(lambda: read_refusals(listener.archive.data_dir) == REFUSED, "it is counted")


def test_dcmtk_sends_over_tls(
    make_listener: MakeListener,
    authority: Authority,
    node: Certificate,
    program: Callable[[str], str],
    tmp_path: Path,
) -> None:
    listener = make_listener(**speaks_as(node), tls_client_ca=authority.certificate)
    sender = authority.sign("sender")
    instance = make_instance(new_study_uid())
    path = write_instance(instance, tmp_path / "sent")
    tls = ["+tls", sender.key, sender.certificate, "+cf", authority.certificate]
    command = [program("storescu"), *tls, "-aec", "GLIONODE", "127.0.0.1", str(listener.port), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    assert listener.stored_studies == [instance.StudyInstanceUID]


def test_a_sender_needs_a_certificate_from_the_right_authority(
    make_listener: MakeListener,
    authority: Authority,
    node: Certificate,
    program: Callable[[str], str],
    tmp_path: Path,
) -> None:
    listener = make_listener(**speaks_as(node), tls_client_ca=authority.certificate)
    strangers = Authority(program, tmp_path / "strangers")
    ways = [
        ({}, False),
        (speaks_as(strangers.sign("stranger")), False),
        (speaks_as(authority.sign("sender")), True),
    ]
    for certificate, expected in ways:
        result = echo(destination(listener, tls_ca=authority.certificate, **certificate), "SENDER")
        assert result.answered is expected, result.message
        assert expected or "certificate" in result.message
    wait_until(lambda: read_refusals(listener.archive.data_dir) == {"TLS handshake failed": 2}, "they are counted")


def test_peers_without_tls_are_refused_and_delay_no_others(
    make_listener: MakeListener, authority: Authority, node: Certificate
) -> None:
    listener = make_listener(**speaks_as(node))
    with raw_connection(listener.port) as silent, raw_connection(listener.port) as plain:
        plain.sendall(associate_request())
        assert read_pdu(plain)[:1] != pdu(0x02, b"")[:1]
        wait_until(lambda: read_refusals(listener.archive.data_dir) == REFUSED, "it is counted")
        assert echo(destination(listener, tls_ca=authority.certificate), "SENDER").answered
        silent.close()
    wait_until(lambda: read_refusals(listener.archive.data_dir) == {"TLS handshake failed": 2}, "it ends")


def test_a_missing_handshake_times_out(make_listener: MakeListener, node: Certificate) -> None:
    listener = make_listener(**speaks_as(node), negotiation_timeout_s=0.3)
    with raw_connection(listener.port) as connection:
        assert read_pdu(connection) == b""
    wait_until(lambda: read_refusals(listener.archive.data_dir) == REFUSED, "it is counted")


def test_the_certificate_of_a_destination_is_checked(
    make_listener: MakeListener, authority: Authority, program: Callable[[str], str], tmp_path: Path
) -> None:
    listener = make_listener(**speaks_as(authority.sign("pacs", "DNS:pacs.example")))
    strangers = Authority(program, tmp_path / "strangers")
    right = {"tls_ca": authority.certificate, "tls_server_name": "pacs.example"}
    ways = [
        (right, True),
        ({"tls_ca": authority.certificate}, False),
        ({**right, "tls_ca": strangers.certificate}, False),
        ({**right, "tls_ca": ""}, False),
        ({**right, "tls_ca": str(tmp_path / "absent.pem")}, False),
    ]
    for tls, expected in ways:
        assert echo(destination(listener, **tls), "SENDER").answered is expected, tls


@pytest.mark.parametrize("days", [90, 365 * 60], ids=["years of two digits", "years of four digits"])
def test_expiry_is_read_as_openssl_reads_it(authority: Authority, program: Callable[[str], str], days: int) -> None:
    certificate = authority.sign("node", days=days).certificate
    command = [program("openssl"), "x509", "-noout", "-enddate", "-in", certificate]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().removeprefix("notAfter=")
    assert expires_at(certificate) == datetime.fromtimestamp(ssl.cert_time_to_seconds(said), UTC)


def findings(now: datetime, **sections: Any) -> list[tuple[Severity, str]]:
    return [(each.severity, each.key) for each in check_certificates(Settings.model_validate(sections), now)]


def test_an_expiring_certificate_is_a_warning(node: Certificate) -> None:
    listener, now = speaks_as(node), datetime.now(UTC)
    warning = [(Severity.WARNING, "listener.tls_certificate")]
    assert findings(now, listener=listener) == []
    assert findings(now + timedelta(days=61), listener=listener) == warning
    assert findings(now + timedelta(days=91), listener=listener) == warning
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1, "tls": True, **listener}
    expected = [(Severity.WARNING, "destinations.pacs.tls_certificate")]
    assert findings(now + timedelta(days=91), destinations=[pacs]) == expected


def test_files_that_do_not_fit_are_errors(
    authority: Authority, node: Certificate, program: Callable[[str], str], tmp_path: Path
) -> None:
    other = authority.sign("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    command = [program("openssl"), "ec", "-in", node.key, "-out", str(locked), "-aes256", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    wrong = {
        "absent.pem cannot be read": {"tls_certificate": str(tmp_path / "absent.pem"), "tls_key": node.key},
        "the key does not belong to": {"tls_certificate": node.certificate, "tls_key": other.key},
        "has a password": {"tls_certificate": node.certificate, "tls_key": str(locked)},
        "is not in PEM form": {"tls_certificate": str(text), "tls_key": node.key},
        "holds no certificates": {**speaks_as(node), "tls_client_ca": str(text)},
    }
    for said, values in wrong.items():
        settings = ListenerSettings.model_validate(values)
        with pytest.raises(SettingsWrong, match=re.escape(said)):
            server_context(settings, "listener", settings.tls_client_ca)
        assert findings(datetime.now(UTC), listener=values) == [(Severity.ERROR, "listener")]
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1, "tls": True, "tls_ca": str(text)}
    assert findings(datetime.now(UTC), destinations=[pacs]) == [(Severity.ERROR, "destinations.pacs")]
