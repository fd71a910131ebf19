"""Find what is contradictory, unsafe or surprising in the settings. Opens none of the files that they name."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from models.package import IntendedUse
from plugin.settings.destinations import (
    AnyDestination,
    DestinationSettings,
    OrthancDestinationSettings,
    StowDestinationSettings,
)
from plugin.settings.sections import DeliverySettings, HttpSettings, OutputsSettings, Settings
from plugin.settings.values import Login, TlsIdentity


class Severity(StrEnum):
    """How bad a finding about the settings is."""

    ERROR = "error"
    """The node refuses to start."""
    WARNING = "warning"
    """The node starts, and may do less than the person who wrote the settings expects."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the settings that a person should know."""

    severity: Severity
    key: str
    text: str


def check_settings(settings: Settings, intended_use: IntendedUse | None) -> tuple[Finding, ...]:
    """Return what is unsafe or surprising, errors first. `intended_use` is the model's, None where it is not known."""
    findings = [
        *_check_listener(settings),
        *_check_http(settings.http),
        *_check_commitment(settings),
        *_check_orthanc(settings),
        *_check_limits(settings),
        *_check_delivery(settings.delivery),
        *_check_alignment(settings),
        *_check_outputs(settings.outputs),
    ]
    for destination in settings.destinations:
        findings += _check_destination(destination)
        if not may_receive(destination, intended_use):
            findings.append(_warning(destination.section_name, f"Nothing will be sent there: {refusal(destination)}"))
    if not settings.destinations:
        findings.append(_warning("destinations", "There is none: results stay on this machine."))
    return tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING))


def _error(key: str, text: str) -> Finding:
    return Finding(Severity.ERROR, key, text)


def _warning(key: str, text: str) -> Finding:
    return Finding(Severity.WARNING, key, text)


def _check_listener(settings: Settings) -> Iterator[Finding]:
    listener = settings.listener
    restricted = listener.calling_ae_titles or listener.senders or listener.tls_client_ca
    if not is_loopback(listener.host) and not listener.insecure and not restricted:
        yield _error(
            "listener.host",
            f"{listener.host} opens the node to the network and any AE title may send. List the senders in "
            "listener.calling_ae_titles or [[listener.senders]], ask for certificates with listener.tls_client_ca, "
            "or set listener.insecure = true.",
        )
    yield from _check_identity(listener, "listener")
    if listener.tls_client_ca and not listener.tls_certificate:
        text = "Without listener.tls_certificate there is no TLS, and no sender is asked for a certificate."
        yield _error("listener.tls_client_ca", text)


def _check_identity(section: TlsIdentity, name: str) -> Iterator[Finding]:
    if bool(section.tls_certificate) != bool(section.tls_key):
        yield _error(f"{name}.tls_key", "A certificate and its key belong together; set both or none.")


def _check_login(section: Login, name: str) -> Iterator[Finding]:
    passwords = bool(section.password_file) + bool(section.password_variable)
    if passwords > 1 or bool(section.user) != bool(passwords):
        yield _error(f"{name}.user", "A user and one place of a password belong together; set both or none.")


def _check_limits(settings: Settings) -> Iterator[Finding]:
    """Find limits that never take effect, because another one comes first."""
    listener, storage = settings.listener, settings.storage
    if listener.max_associations_per_peer > listener.max_associations:
        text = (
            f"{listener.max_associations_per_peer} from one address are never reached: listener.max_associations "
            f"allows {listener.max_associations} from all together, so one peer can take them all."
        )
        yield _warning("listener.max_associations_per_peer", text)
    if settings.http.max_connections_per_address > settings.http.max_connections:
        text = f"It is never reached: http.max_connections allows {settings.http.max_connections} from all together."
        yield _warning("http.max_connections_per_address", text)
    if 0 < storage.purge_below_mb <= storage.minimum_free_mb:
        text = (
            f"At {storage.purge_below_mb} MiB the node receives nothing any more (storage.minimum_free_mb is "
            f"{storage.minimum_free_mb}), so purging begins too late. Set it well above that."
        )
        yield _warning("storage.purge_below_mb", text)
    accepted = {*listener.calling_ae_titles, *(sender.ae_title for sender in listener.senders)}
    unknown = [title for title in listener.urgent_ae_titles if accepted and title not in accepted]
    if unknown:
        text = f"{', '.join(unknown)} may not send: neither listener.calling_ae_titles nor senders names it."
        yield _warning("listener.urgent_ae_titles", text)


def _check_delivery(delivery: DeliverySettings) -> Iterator[Finding]:
    if delivery.retry_longest_s < delivery.retry_first_s:
        yield _error("delivery.retry_longest_s", "It is shorter than delivery.retry_first_s.")


def _check_alignment(settings: Settings) -> Iterator[Finding]:
    if not settings.alignment.enabled:
        yield _warning(
            "alignment.enabled",
            "The scanner's coordinates are used for every series, though patients move and some coordinates mean "
            "nothing. Switch it on unless all series stand on one grid.",
        )


def _check_outputs(outputs: OutputsSettings) -> Iterator[Finding]:
    if outputs.measurements and "T1CE" not in outputs.seg_on:
        yield _error(
            "outputs.measurements",
            'The measurements refer to the SEG on T1CE. Add "T1CE" to outputs.seg_on, or set measurements = false.',
        )
    if not (outputs.seg_on or outputs.diameters or outputs.capture):
        yield _error("outputs", "The node would make no object for a study. Switch one on.")


def _check_destination(destination: AnyDestination) -> Iterator[Finding]:
    name = destination.section_name
    if isinstance(destination, OrthancDestinationSettings):
        return
    yield from _check_identity(destination, name)
    if isinstance(destination, StowDestinationSettings):
        yield from _check_stow(destination)
        return
    if destination.port == 0:
        yield _error(f"{name}.port", "Nothing can be sent to port 0.")
    if not destination.tls and (destination.tls_ca or destination.tls_server_name or destination.tls_certificate):
        text = "The other tls keys have no effect without TLS. Set tls = true, or remove them."
        yield _error(f"{name}.tls", text)


def _check_stow(destination: StowDestinationSettings) -> Iterator[Finding]:
    name = destination.section_name
    token = bool(destination.token_file) + bool(destination.token_variable)
    password = bool(destination.password_file or destination.password_variable)
    yield from _check_login(destination, name)
    if token + password > 1:
        text = "Name one place of one secret: token_file, token_variable, password_file or password_variable."
        yield _error(name, text)
    if (token or password) and _crosses_network_unencrypted(destination.url):
        text = "Over http everybody on the way could read the token or the password. Write https://."
        yield _error(f"{name}.url", text)
    if not destination.over_tls and (destination.tls_ca or destination.tls_certificate):
        yield _error(f"{name}.url", "The tls keys have no effect without TLS. Write https://, or remove them.")


def _check_commitment(settings: Settings) -> Iterator[Finding]:
    listener = settings.listener
    for sender in listener.senders:
        if bool(sender.host) != bool(sender.port) or (sender.tls and not sender.host):
            text = f"Set both host and port of {sender.ae_title}, where it accepts reports, or neither and no tls."
            yield _error("listener.senders", text)
    accepted = {*listener.calling_ae_titles, *(sender.ae_title for sender in listener.senders)}
    for destination in settings.destinations:
        if not isinstance(destination, DestinationSettings) or not destination.storage_commitment:
            continue
        if accepted and destination.ae_title not in accepted:
            text = (
                f"The listener refuses associations of {destination.ae_title}, so no report comes on one that it "
                "opens. List it in listener.calling_ae_titles or [[listener.senders]] if it opens one."
            )
            yield _warning(f"{destination.section_name}.storage_commitment", text)


def _check_http(http: HttpSettings) -> Iterator[Finding]:
    if http.enabled and not is_loopback(http.host) and not http.tls_certificate and not http.insecure:
        text = (
            f"{http.host} opens HTTP to the network without encryption. Set http.tls_certificate and http.tls_key, or "
            "set http.insecure = true."
        )
        yield _error("http.host", text)
    yield from _check_identity(http, "http")
    yield from _check_access(http)
    if http.token_file and http.token_variable:
        yield _error("http.token_variable", "There is one token; name one place of it.")
    if not http.archive_url:
        return
    if not (http.token_file or http.token_variable):
        text = "The archive requires a token. Set http.token_file or http.token_variable, with the token of that node."
        yield _error("http.archive_url", text)
    if _crosses_network_unencrypted(http.archive_url) and not http.insecure:
        text = (
            "Token and images would cross the network unencrypted. Use https://, or set http.insecure = true if the "
            "network is trusted."
        )
        yield _error("http.archive_url", text)


def _check_access(http: HttpSettings) -> Iterator[Finding]:
    if http.allow_without_token and not is_loopback(http.host):
        text = "Beyond loopback routes that show or change patients need a token. Remove it, and set http.token_file."
        yield _error("http.allow_without_token", text)
    elif http.allow_without_token and (http.token_file or http.token_variable):
        yield _warning("http.allow_without_token", "It has no effect, because there is a token. Remove it.")
    elif http.allow_without_token:
        text = f"As it says: {http.allow_without_token}, by the routes of a hosted plugin. Set http.token_file instead."
        yield _warning("http.allow_without_token", text)
    if http.enabled and not is_loopback(http.host) and not http.allowed_hosts:
        text = (
            "Clients reach the server by its addresses, by http.host and by this machine's own name. Requests by other "
            "names are refused (HTTP 421): list the names that clients use, such as those of the certificate."
        )
        yield _warning("http.allowed_hosts", text)


def _check_orthanc(settings: Settings) -> Iterator[Finding]:
    orthanc, http = settings.orthanc, settings.http
    through = [each for each in settings.destinations if isinstance(each, OrthancDestinationSettings)]
    for each in through:
        if not orthanc.url:
            yield _error(f"{each.section_name}.via", "orthanc.url, which says where Orthanc is, is empty.")
        if each.modality and each.peer:
            yield _error(
                f"{each.section_name}.peer", "Name modality or peer; give the other one a destination of its own."
            )
        if each.storage_commitment and not each.modality:
            text = "Only a modality can be asked for commitment; name it, or set storage_commitment = false."
            yield _error(f"{each.section_name}.storage_commitment", text)
    if not orthanc.url:
        return
    yield from _check_login(orthanc, "orthanc")
    yield from _check_identity(orthanc, "orthanc")
    if _crosses_network_unencrypted(orthanc.url):
        text = "Password and images would cross the network unencrypted. Write https://."
        # As for the archive: a private network, such as one of containers, may be trusted.
        severity = Severity.WARNING if http.insecure else Severity.ERROR
        yield Finding(severity, "orthanc.url", f"{text} http.insecure = true allows it.")
    if not orthanc.over_tls and (orthanc.tls_ca or orthanc.tls_certificate):
        yield _error("orthanc.tls_ca", "The tls keys have no effect without TLS. Write https://, or remove them.")
    if not (http.enabled and (http.token_file or http.token_variable)):
        text = (
            "The script inside Orthanc submits studies over HTTP: `glionode serve` or `listen` needs http.enabled and "
            "a token."
        )
        yield _warning("orthanc.url", text)
    if not through:
        text = 'Results do not go back to it: there is no destination with via = "orthanc".'
        yield _warning("orthanc.url", text)


def may_receive(destination: AnyDestination, intended_use: IntendedUse | None) -> bool:
    """Return whether results of a model for this use may go there; an unknown use counts as a demonstration."""
    trusted = intended_use in (IntendedUse.RESEARCH, IntendedUse.CLINICAL)
    return trusted or destination.accepts_demonstration


def refusal(destination: AnyDestination) -> str:
    """Return why a demonstration model's results do not go to a destination, and what to do."""
    return (
        f"the model is a demonstration and destination {destination.name} does not accept its results; install a model "
        "for research or clinical use, or set accepts_demonstration = true there if no patient's images are in it."
    )


def _crosses_network_unencrypted(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
