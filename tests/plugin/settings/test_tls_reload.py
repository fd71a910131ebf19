"""New certificates are taken without a restart, by servers and by clients; broken ones leave the earlier in force."""

import logging
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pipeline.errors import SettingsWrong
from plugin.delivery.deliverer import echo
from plugin.http.server import http_server, make_app
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import HttpSettings
from plugin.settings.tls_reload import current_client_context
from tests.support.certificates import Authority, Certificate
from tests.support.listener import MakeListener


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    """A command that ran before in this process may have left another one."""
    caplog.set_level(logging.WARNING)


@pytest.fixture
def authority(program: Callable[[str], str], tmp_path: Path) -> Authority:
    return Authority(program, tmp_path / "authority")


def put(made: Certificate, place: Certificate) -> None:
    """Put files in the place of others, as a program that renews certificates does."""
    for new, path in ((made.certificate, place.certificate), (made.key, place.key)):
        shutil.copy(new, f"{path}.new")
        Path(f"{path}.new").replace(path)


def shown(port: int, authority: Authority, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes | None:
    """Return the certificate that a server shows to a client that trusts the authority."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    context.maximum_version = most
    with (
        closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True)


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(certificate.certificate).read_text())


@pytest.fixture
def in_use(authority: Authority) -> Certificate:
    return authority.sign("in-use")


@pytest.fixture(params=["listener", "http"])
def port(request: pytest.FixtureRequest, make_listener: MakeListener, in_use: Certificate) -> Iterator[int]:
    keys = {"tls_certificate": in_use.certificate, "tls_key": in_use.key}
    if request.param == "listener":
        yield make_listener(**keys).port
        return
    with http_server(HttpSettings(enabled=True, port=0, **keys), make_app({}, CollectorRegistry())) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_shows_a_new_certificate_in_the_next_handshake(
    port: int, authority: Authority, in_use: Certificate, most: ssl.TLSVersion
) -> None:
    before = der(in_use)
    assert shown(port, authority, most) == before
    put(authority.sign("renewed"), in_use)
    assert der(in_use) != before
    assert shown(port, authority, most) == der(in_use)


def test_a_broken_or_half_renewed_certificate_leaves_the_earlier_one_in_force(
    port: int, authority: Authority, in_use: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    before = der(in_use)
    renewed = authority.sign("renewed")
    breakages: tuple[Callable[[], object], ...] = (
        Path(in_use.certificate).unlink,
        lambda: shutil.copy(renewed.certificate, in_use.certificate),
    )
    for breakage in breakages:
        breakage()
        for _ in range(3):
            assert shown(port, authority) == before
    said = [each for each in caplog.messages if "new certificates" in each]
    assert len(said) == 2, "one line for each state"
    assert all("The earlier ones stay in use" in each for each in said)
    assert "the key does not belong to the certificate" in said[1]
    shutil.copy(renewed.key, in_use.key)
    assert shown(port, authority) == der(renewed)
    assert [each for each in caplog.messages if "works again" in each]


def test_a_listener_takes_new_authorities_of_its_senders(
    make_listener: MakeListener,
    authority: Authority,
    in_use: Certificate,
    program: Callable[[str], str],
    tmp_path: Path,
) -> None:
    others = Authority(program, tmp_path / "others")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(authority.certificate, trusted)
    keys = {"tls_certificate": in_use.certificate, "tls_key": in_use.key}
    listener = make_listener(**keys, tls_client_ca=str(trusted))
    sender = others.sign("sender")
    destination = DestinationSettings(
        name="node",
        ae_title="GLIONODE",
        host="127.0.0.1",
        port=listener.port,
        tls=True,
        tls_ca=authority.certificate,
        tls_certificate=sender.certificate,
        tls_key=sender.key,
    )
    assert not echo(destination, "SENDER").answered
    shutil.copy(others.certificate, trusted)
    assert echo(destination, "SENDER").answered


def test_a_client_uses_the_earlier_files_while_the_new_ones_are_broken(
    authority: Authority, in_use: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    section = DestinationSettings(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=1,
        tls=True,
        tls_ca=authority.certificate,
        tls_certificate=in_use.certificate,
        tls_key=in_use.key,
    )
    first = current_client_context(section, "destinations.pacs")
    assert current_client_context(section, "destinations.pacs") is first
    good = Path(in_use.key).read_text()
    Path(in_use.key).write_text("no key")
    assert current_client_context(section, "destinations.pacs") is first
    assert len(caplog.messages) == 1
    Path(in_use.key).write_text(good)
    assert current_client_context(section, "destinations.pacs") is not first


def test_a_client_without_usable_files_is_refused_at_first(authority: Authority) -> None:
    section = DestinationSettings(name="pacs", ae_title="PACS", host="h", port=1, tls=True, tls_ca="/nothing.pem")
    with pytest.raises(SettingsWrong, match="cannot be read"):
        current_client_context(section, "destinations.pacs")
