"""The commands that check a node: `glionode status`, `health`, `check-config`, `echo`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption, JsonOption, load_settings_or_exit
from plugin.commands.terminal import FAILED, WRONG_USAGE, print_table, refuse, refusing

if TYPE_CHECKING:
    from models.package import IntendedUse
    from plugin.node.status import DestinationStatus, NodeStatus
    from plugin.settings.destinations import AnyDestination
    from plugin.settings.sections import Settings

_MOST_NAMED = 5
"""Objects of a destination that `glionode status` names."""


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the status of the node: jobs by state, deliveries by destination, the latest problems.

    Exit status: 0 it receives, 1 it does not run or refuses to receive.
    """
    from plugin.node.status import read_status

    with refusing(GlionodeError):
        found = read_status(load_settings_or_exit(config))
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        _print_status(found)
    if not found.receiving:
        raise typer.Exit(FAILED)


def health(
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")] = 5.0,
    config: ConfigOption = None,
) -> None:
    """Request /health from the node process on this machine, for the health check of a container.

    Exit status: 0 healthy, 1 not healthy, 3 nothing listens there, 4 no answer in time, 5 another program answers,
    6 TLS fails, 64 the settings do not serve HTTP on a known port.
    """
    from plugin.node.health_probe import probe_health

    with refusing(GlionodeError, status=WRONG_USAGE):
        probe = probe_health(load_settings_or_exit(config).http, timeout_s)
    if probe.problems:
        raise refuse("\n".join(probe.problems), probe.outcome)
    print("The node is healthy.")


def check_config(config: ConfigOption = None) -> None:
    """Check the settings file and the environment without starting anything.

    Exit status: 0 usable, 64 not usable. Warnings do not change it.
    """
    from pipeline.rules import load_rules
    from plugin.settings.certificates import check_certificates
    from plugin.settings.check import Severity, check_settings
    from plugin.settings.secrets import check_credentials

    settings = load_settings_or_exit(config)
    use, problem = _intended_use(settings)
    findings = (
        *check_settings(settings, use),
        *check_certificates(settings, datetime.now(UTC)),
        *check_credentials(settings),
    )
    try:
        load_rules(settings.rules_path)
    except GlionodeError as exc:
        problem = f"{problem} {exc}".strip()
    for finding in findings:
        print(f"{finding.severity.value}: {finding.key}: {finding.text}")
    if problem:
        print(f"error: {problem}")
    if problem or any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(WRONG_USAGE)
    print("The settings are usable.")


def echo(
    destination: Annotated[str, typer.Argument(metavar="DEST", help="Name of a destination of the settings.")],
    config: ConfigOption = None,
) -> None:
    """Check whether a destination answers: with C-ECHO or, if it has a url, with a search that finds nothing.

    A DICOM peer is also asked which of the objects that the node makes it takes, and in which transfer syntaxes;
    nothing is sent. Exit status: 0 it answers and takes all of them, 1 it does not, 64 it is not in the settings.
    """
    from plugin.delivery.deliverer import echo as echo_destination
    from plugin.delivery.produced_classes import produced_classes

    settings = load_settings_or_exit(config)
    found = [each for each in settings.destinations if each.name == destination]
    if not found:
        known = ", ".join(each.name for each in settings.destinations) or "none"
        raise refuse(f"The settings have no destination {destination!r}; they have: {known}.")
    result = echo_destination(
        found[0],
        settings.listener.ae_title,
        orthanc=settings.orthanc,
        sop_class_uids=produced_classes(settings.outputs),
    )
    if not result.answered:
        raise refuse(f"{_address(found[0])}: {result.message}", FAILED)
    print(f"{_address(found[0])}: {result.message}")
    for each in result.classes:
        print(f"{_name(each.sop_class_uid)}: {', '.join(map(_name, each.transfer_syntax_uids)) or 'NOT TAKEN'}")
    if not result.takes_all:
        raise refuse(
            f"{found[0].name} does not take all that the node makes; have it accept these classes from "
            f"{settings.listener.ae_title}, or leave them out under [outputs].",
            FAILED,
        )


def _name(uid: str) -> str:
    from pydicom.uid import UID

    return UID(uid).name


def _address(destination: "AnyDestination") -> str:
    from plugin.settings.destinations import OrthancDestinationSettings, StowDestinationSettings

    if isinstance(destination, StowDestinationSettings):
        return f"{destination.name} ({destination.url})"
    if isinstance(destination, OrthancDestinationSettings):
        target = destination.modality or destination.peer
        return f"{destination.name} (Orthanc{f', forwarded to {target}' if target else ''})"
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"


def _intended_use(settings: "Settings") -> "tuple[IntendedUse | None, str]":
    from plugin.sources.served_model import served_package, wanted_roles

    use = None
    try:
        package = served_package(settings.model.name, settings.installed_models_dir)
        use = package.intended_use
        wanted_roles(package, settings.model.require)
    except GlionodeError as exc:
        return use, str(exc)
    return use, ""


def _broken_off(destination: "DestinationStatus") -> Iterator[str]:
    for each in destination.broken_off[:_MOST_NAMED]:
        what = "was given up" if each.state == "dead" else "goes alone, and the others go on"
        yield (
            f"Broken off: {each.destination} at {each.sop_instance_uid} of job {each.job}, {each.attempts} tries; it "
            f"{what}: {each.error}"
        )
    if (more := len(destination.broken_off) - _MOST_NAMED) > 0:
        yield f"Broken off: {destination.name} at {more} more objects; `glionode jobs` names them"


def _print_status(found: "NodeStatus") -> None:
    node = found.running
    where = f"listening as {node.ae_title} on {node.host}:{node.port} (process {node.pid})" if node else "not running"
    print(f"Node: {where}")
    if node is not None and node.http_url:
        print(f"HTTP: {node.http_url}/health, {node.http_url}/metrics")
    print(f"Data: {found.data_dir}, {found.free_mb} MB free; {'receiving' if found.receiving else 'NOT RECEIVING'}")
    print(f"Model: {found.model}")
    print(f"Studies received: {found.studies_received}")
    if found.quarantined:
        print(f"Unreadable objects: {found.quarantined}, kept in {found.data_dir}/quarantine")
    if found.commitments_pending:
        print(f"Storage commitment: {found.commitments_pending} requests without a report so far")
    if found.refused:
        print("Refused peers: " + ", ".join(f"{count} {reason}" for reason, count in found.refused.items()))
    if not found.database_answers:
        print("Jobs: the database does not answer")
    else:
        urgent = f" ({found.urgent_waiting} of the queued ones are urgent)" if found.urgent_waiting else ""
        print("Jobs: " + (", ".join(f"{count} {state}" for state, count in found.jobs.items()) or "none") + urgent)
    if found.destinations:
        table = Table("Destination", "Objects", "Last error")
        for each in found.destinations:
            counts = ", ".join(f"{count} {state}" for state, count in each.objects.items()) or "none"
            table.add_row(each.name, counts, each.refused_because or each.unreachable or each.last_error or "")
        print_table(table)
    for each in found.destinations:
        for line in _broken_off(each):
            print(line)
    for warning in found.warnings.values():
        print(f"Warning: {warning}")
    for trouble in found.troubles:
        print(f"Trouble: {trouble.at} {trouble.place}: {trouble.message}")
