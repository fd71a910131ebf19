"""What of a site's settings is contradictory, unsafe or surprising. Reads no file."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from models.package import IntendedUse
from plugin.settings import DestinationSettings, Settings


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
        elif destination.port == 0:
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


def _tls_contradictions(settings: Settings) -> list[Finding]:
    listener = settings.listener
    both = "A certificate and its key belong together; set both or none."
    findings = []
    if bool(listener.tls_certificate) != bool(listener.tls_key):
        findings.append(Finding(Severity.ERROR, "listener.tls_key", both))
    if listener.tls_client_ca and not listener.tls_certificate:
        text = "Without listener.tls_certificate there is no TLS, and no sender is asked for a certificate."
        findings.append(Finding(Severity.ERROR, "listener.tls_client_ca", text))
    for destination in settings.destinations:
        place = f"destinations.{destination.name}"
        if bool(destination.tls_certificate) != bool(destination.tls_key):
            findings.append(Finding(Severity.ERROR, f"{place}.tls_key", both))
        if isinstance(destination, StowDestinationSettings):
            if not destination.url.startswith("https:") and (destination.tls_ca or destination.tls_certificate):
                text = "The tls keys say how TLS is spoken, and it is not. Write https://, or take them out."
                findings.append(Finding(Severity.ERROR, f"{place}.url", text))
        elif not destination.tls and (destination.tls_ca or destination.tls_server_name or destination.tls_certificate):
            text = "The other keys say how TLS is spoken, and it is not. Set tls = true, or take them out."
            findings.append(Finding(Severity.ERROR, f"{place}.tls", text))
    return findings


def may_receive(destination: DestinationSettings, intended_use: IntendedUse | None) -> bool:
    """Whether results of a model for this use may go there; an unknown model counts as a demonstration."""
    trusted = intended_use in (IntendedUse.RESEARCH, IntendedUse.CLINICAL)
    return trusted or destination.accepts_demonstration


def refusal(destination: AnyDestination) -> str:
    """Why a demonstration model's results do not go to a destination, and what to do."""
    return (
        f"the model is a demonstration and destination {destination.name} does not accept its results; install a model "
        "for research or clinical use, or set accepts_demonstration = true there if no patient's images are in it."
    )


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
