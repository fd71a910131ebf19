"""What of a site's settings is contradictory, unsafe or surprising. Reads no file."""

import ipaddress
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
from plugin.settings.sections import HttpSettings, Settings

_BOTH = "A certificate and its key belong together; set both or none."


class Severity(StrEnum):
    """How bad a finding about the settings is."""

    ERROR = "error"
    """The node refuses to start."""
    WARNING = "warning"
    """The node starts, and does less than one might think."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the settings that a person should know."""

    severity: Severity
    key: str
    text: str


def check_settings(settings: Settings, intended_use: IntendedUse | None) -> tuple[Finding, ...]:
    """What is unsafe or surprising, errors first. `intended_use` is the model's, None where it is not known."""
    findings: list[Finding] = []
    listener = settings.listener
    known = listener.calling_ae_titles or listener.senders or listener.tls_client_ca
    if not is_loopback(listener.host) and not listener.insecure and not known:
        findings.append(
            Finding(
                Severity.ERROR,
                "listener.host",
                f"{listener.host} opens the node to the network and any AE title may send. List the senders in "
                "listener.calling_ae_titles or [[listener.senders]], ask for certificates with listener.tls_client_ca, "
                "or say listener.insecure = true.",
            )
        )
    findings += _tls_contradictions(settings)
    findings += _http_contradictions(settings.http)
    findings += _commitment_contradictions(settings)
    findings += _orthanc_contradictions(settings)
    findings += _idle_limits(settings)
    if settings.delivery.retry_longest_s < settings.delivery.retry_first_s:
        findings.append(
            Finding(Severity.ERROR, "delivery.retry_longest_s", "It is shorter than delivery.retry_first_s.")
        )
    outputs = settings.outputs
    if outputs.measurements and "T1CE" not in outputs.seg_on:
        findings.append(
            Finding(
                Severity.ERROR,
                "outputs.measurements",
                'The measurements refer to the SEG on T1CE. Add "T1CE" to outputs.seg_on, or say measurements = false.',
            )
        )
    if not (outputs.seg_on or outputs.diameters or outputs.capture):
        findings.append(Finding(Severity.ERROR, "outputs", "Nothing would be made of a study. Switch something on."))
    for destination in settings.destinations:
        if isinstance(destination, StowDestinationSettings):
            findings += _web_contradictions(destination)
        elif isinstance(destination, DestinationSettings) and destination.port == 0:
            findings.append(
                Finding(Severity.ERROR, f"destinations.{destination.name}.port", "Port 0 is no port to send to.")
            )
        if not may_receive(destination, intended_use):
            findings.append(
                Finding(
                    Severity.WARNING,
                    f"destinations.{destination.name}",
                    f"Nothing will be sent there: {refusal(destination)}",
                )
            )
    if not settings.destinations:
        findings.append(Finding(Severity.WARNING, "destinations", "There is none: results stay on this machine."))
    return tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING))


def _idle_limits(settings: Settings) -> list[Finding]:
    """Limits that never come to bear, because another one comes first."""
    listener, storage, findings = settings.listener, settings.storage, []
    if listener.max_associations_per_peer > listener.max_associations:
        text = (
            f"{listener.max_associations_per_peer} from one address are never reached: listener.max_associations lets "
            f"{listener.max_associations} in from all together, so one peer can take them all."
        )
        findings.append(Finding(Severity.WARNING, "listener.max_associations_per_peer", text))
    if 0 < storage.purge_below_mb <= storage.minimum_free_mb:
        text = (
            f"At {storage.purge_below_mb} MiB nothing is received any more (storage.minimum_free_mb is "
            f"{storage.minimum_free_mb}), so purging begins too late. Set it well above that."
        )
        findings.append(Finding(Severity.WARNING, "storage.purge_below_mb", text))
    known = {*listener.calling_ae_titles, *(sender.ae_title for sender in listener.senders)}
    strangers = [title for title in listener.urgent_ae_titles if known and title not in known]
    if strangers:
        text = f"{', '.join(strangers)} may not send: neither listener.calling_ae_titles nor senders names it."
        findings.append(Finding(Severity.WARNING, "listener.urgent_ae_titles", text))
    return findings


def _tls_contradictions(settings: Settings) -> list[Finding]:
    listener = settings.listener
    findings = []
    if bool(listener.tls_certificate) != bool(listener.tls_key):
        findings.append(Finding(Severity.ERROR, "listener.tls_key", _BOTH))
    if listener.tls_client_ca and not listener.tls_certificate:
        text = "Without listener.tls_certificate there is no TLS, and no sender is asked for a certificate."
        findings.append(Finding(Severity.ERROR, "listener.tls_client_ca", text))
    for destination in settings.destinations:
        if isinstance(destination, OrthancDestinationSettings):
            continue
        place = f"destinations.{destination.name}"
        if bool(destination.tls_certificate) != bool(destination.tls_key):
            findings.append(Finding(Severity.ERROR, f"{place}.tls_key", _BOTH))
        if isinstance(destination, StowDestinationSettings):
            if not destination.url.startswith("https:") and (destination.tls_ca or destination.tls_certificate):
                text = "The tls keys say how TLS is spoken, and it is not. Write https://, or take them out."
                findings.append(Finding(Severity.ERROR, f"{place}.url", text))
        elif not destination.tls and (destination.tls_ca or destination.tls_server_name or destination.tls_certificate):
            text = "The other keys say how TLS is spoken, and it is not. Set tls = true, or take them out."
            findings.append(Finding(Severity.ERROR, f"{place}.tls", text))
    return findings


def _commitment_contradictions(settings: Settings) -> list[Finding]:
    findings = []
    listener = settings.listener
    for sender in listener.senders:
        if bool(sender.host) != bool(sender.port) or (sender.tls and not sender.host):
            text = f"Say both host and port of {sender.ae_title}, where it takes reports, or neither and no tls."
            findings.append(Finding(Severity.ERROR, "listener.senders", text))
    let_in = {*listener.calling_ae_titles, *(sender.ae_title for sender in listener.senders)}
    for destination in settings.destinations:
        if not isinstance(destination, DestinationSettings) or not destination.storage_commitment:
            continue
        if let_in and destination.ae_title not in let_in:
            text = (
                f"The listener does not let {destination.ae_title} in, so no report comes on an association that it "
                "opens. List it in listener.calling_ae_titles or [[listener.senders]] if it opens one."
            )
            findings.append(Finding(Severity.WARNING, f"destinations.{destination.name}.storage_commitment", text))
    return findings


def _web_contradictions(destination: StowDestinationSettings) -> list[Finding]:
    place = f"destinations.{destination.name}"
    token = bool(destination.token_file) + bool(destination.token_variable)
    password = bool(destination.password_file) + bool(destination.password_variable)
    findings = []
    if token + password > 1:
        text = "Say one place of one secret: token_file, token_variable, password_file or password_variable."
        findings.append(Finding(Severity.ERROR, place, text))
    if bool(destination.user) != bool(password):
        text = "A user and a password belong together; set both or none."
        findings.append(Finding(Severity.ERROR, f"{place}.user", text))
    if (token or password) and _in_the_clear(destination.url):
        text = "Over http everybody on the way could read the token or the password. Write https://."
        findings.append(Finding(Severity.ERROR, f"{place}.url", text))
    return findings


def _http_contradictions(http: HttpSettings) -> list[Finding]:
    findings = []
    if http.enabled and not is_loopback(http.host) and not http.tls_certificate and not http.insecure:
        text = (
            f"{http.host} opens HTTP to the network in the clear. Set http.tls_certificate and http.tls_key, or say "
            "http.insecure = true."
        )
        findings.append(Finding(Severity.ERROR, "http.host", text))
    if bool(http.tls_certificate) != bool(http.tls_key):
        findings.append(Finding(Severity.ERROR, "http.tls_key", _BOTH))
    if http.token_file and http.token_variable:
        findings.append(Finding(Severity.ERROR, "http.token_variable", "There is one token; say where it is once."))
    if not http.archive_url:
        return findings
    if not (http.token_file or http.token_variable):
        text = "The archive asks for a token. Set http.token_file or http.token_variable, here as there."
        findings.append(Finding(Severity.ERROR, "http.archive_url", text))
    if _in_the_clear(http.archive_url) and not http.insecure:
        text = "Token and images would cross the network in the clear. Use https://, or say http.insecure = true."
        findings.append(Finding(Severity.ERROR, "http.archive_url", text))
    return findings


def _orthanc_contradictions(settings: Settings) -> list[Finding]:
    orthanc, findings = settings.orthanc, []
    through = [each for each in settings.destinations if isinstance(each, OrthancDestinationSettings)]
    for each in through:
        place = f"destinations.{each.name}"
        if not orthanc.url:
            findings.append(Finding(Severity.ERROR, f"{place}.via", "orthanc.url, where that is, is empty."))
        if each.modality and each.peer:
            text = "Say modality or peer; give the other one a destination of its own."
            findings.append(Finding(Severity.ERROR, f"{place}.peer", text))
        if each.storage_commitment and not each.modality:
            text = "Only a modality can be asked for commitment; name it, or say storage_commitment = false."
            findings.append(Finding(Severity.ERROR, f"{place}.storage_commitment", text))
    if not orthanc.url:
        return findings
    password = bool(orthanc.password_file) + bool(orthanc.password_variable)
    if password > 1 or bool(orthanc.user) != bool(password):
        text = "A user and one place of a password belong together; set both or none."
        findings.append(Finding(Severity.ERROR, "orthanc.user", text))
    if bool(orthanc.tls_certificate) != bool(orthanc.tls_key):
        findings.append(Finding(Severity.ERROR, "orthanc.tls_key", _BOTH))
    if _in_the_clear(orthanc.url):
        text = "Password and images would cross the network in the clear. Write https://."
        # As for the archive: a network of one's own, such as a container's, may be trusted.
        severity = Severity.WARNING if settings.http.insecure else Severity.ERROR
        findings.append(Finding(severity, "orthanc.url", f"{text} http.insecure = true allows it."))
    if urlsplit(orthanc.url).scheme == "http" and (orthanc.tls_ca or orthanc.tls_certificate):
        text = "The tls keys say how TLS is spoken, and it is not. Write https://, or take them out."
        findings.append(Finding(Severity.ERROR, "orthanc.tls_ca", text))
    http = settings.http
    if not (http.enabled and (http.token_file or http.token_variable)):
        text = "Its plugin names studies over HTTP: `glionode serve` or `listen` needs http.enabled and a token."
        findings.append(Finding(Severity.WARNING, "orthanc.url", text))
    if not through:
        text = 'Results do not go back to it: there is no destination with via = "orthanc".'
        findings.append(Finding(Severity.WARNING, "orthanc.url", text))
    return findings


def may_receive(destination: AnyDestination, intended_use: IntendedUse | None) -> bool:
    """Whether results of a model for this use may go there; an unknown model counts as a demonstration."""
    trusted = intended_use in (IntendedUse.RESEARCH, IntendedUse.CLINICAL)
    return trusted or destination.accepts_demonstration


def refusal(destination: AnyDestination) -> str:
    """Why a demonstration model's results do not go to a destination, and what to do."""
    return (
        f"the model is a demonstration and destination {destination.name} does not accept its results; install a model "
        "for research or clinical use, or set accepts_demonstration = true there if no patient's images are in it."
    )


def _in_the_clear(url: str) -> bool:
    """Whether what goes to a URL could be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
