"""The commands of a running node: `glionode serve`, `status`, `health`, `check-config`, `echo`."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from models.package import IntendedUse, PackageBroken, find_package
from pipeline.errors import GlionodeError
from plugin.commands.segment import ConfigOption
from plugin.commands.terminal import FAILED, WRONG_USAGE, print_table, refuse
from plugin.logs import set_up_logging

if TYPE_CHECKING:
    from plugin.node.status import NodeStatus
    from plugin.settings.destinations import AnyDestination, OrthancDestinationSettings
    from plugin.settings.sections import Settings

JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


def add_node_commands(app: typer.Typer) -> None:
    """Register the node's commands with the command line."""
    app.command()(serve)
    app.command()(status)
    app.command()(health)
    app.command("check-config")(check_config)
    app.command()(echo)


def serve(
    config: ConfigOption = None,
    plugin: Annotated[
        Path | None,
        typer.Option(help="Python script that was written for Orthanc (import orthanc), to run beside the node."),
    ] = None,
    plugin_config: Annotated[
        Path | None, typer.Option(help="The configuration that the plugin sees: a file as Orthanc's own.")
    ] = None,
) -> None:
    """Run the node: receive studies over DICOM, segment them, send SEG and SR to the destinations.

    It listens on loopback unless the settings say otherwise, keeps everything under storage.data_dir, and goes on where
    it was after a crash. SIGTERM or Ctrl-C ends it in bounded time. The log goes to standard error; the line
    "listening as AE on HOST:PORT" says that it is ready.
    """
    if plugin_config is not None and plugin is None:
        raise refuse("--plugin-config is for a plugin; name it by --plugin.")
    from plugin.node.run import serve as serve_node
    from plugin.worker.study_segmenter import StudySegmenter

    settings = load_settings_or_exit(config)
    set_up_logging(logging.INFO, settings.logging.format)
    files = None
    if plugin is not None:
        from plugin.orthanc_api.script import PluginFiles

        files = PluginFiles(plugin, plugin_config)
    try:
        serve_node(settings, StudySegmenter(settings), plugin=files)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how the node is doing: jobs by state, deliveries by destination, the latest trouble.

    Exit status: 0 where it receives, 1 where it does not run or refuses to receive.
    """
    from plugin.node.status import read_status

    try:
        found = read_status(load_settings_or_exit(config))
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        _print_status(found)
    if not found.receiving:
        raise typer.Exit(FAILED)


def health(
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")] = 5.0,
    config: ConfigOption = None,
) -> None:
    """Ask the node on this machine, or the part of it that runs here, for its /health: for a container's health check.

    Exit status: 0 all is well, 1 something is not or nothing answers, 64 the settings have no HTTP to ask.
    """
    from plugin.node.health_probe import probe_health

    try:
        wrong = probe_health(load_settings_or_exit(config).http, timeout_s)
    except GlionodeError as exc:
        raise refuse(str(exc)) from exc
    if wrong:
        raise refuse("\n".join(wrong), FAILED)
    print("All is well.")


def check_config(config: ConfigOption = None) -> None:
    """Check the settings file and the environment without starting anything.

    Exit status: 0 usable, 64 not usable. Warnings do not change it.
    """
    from pipeline.rules import load_rules
    from plugin.settings.certificates import check_certificates
    from plugin.settings.check import Severity, check_settings
    from plugin.settings.secrets import check_credentials

    settings = load_settings_or_exit(config)
    use, trouble = _intended_use(settings)
    findings = (
        *check_settings(settings, use),
        *check_certificates(settings, datetime.now(UTC)),
        *check_credentials(settings),
    )
    try:
        load_rules(settings.rules_path)
    except GlionodeError as exc:
        trouble = f"{trouble} {exc}".strip()
    for finding in findings:
        print(f"{finding.severity.value}: {finding.key}: {finding.text}")
    if trouble:
        print(f"error: {trouble}")
    if trouble or any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(WRONG_USAGE)
    print("The settings are usable.")


def echo(
    destination: Annotated[str, typer.Argument(metavar="DEST", help="Name of a destination of the settings.")],
    config: ConfigOption = None,
) -> None:
    """Ask a destination whether it answers: by C-ECHO, or by a search that finds nothing where it has a url.

    Exit status: 0 it does, 1 it does not, 64 it is unknown.
    """
    from plugin.delivery.deliverer import echo as echo_destination

    settings = load_settings_or_exit(config)
    found = [each for each in settings.destinations if each.name == destination]
    if not found:
        known = ", ".join(each.name for each in settings.destinations) or "none"
        raise refuse(f"There is no destination called {destination!r} in the settings; there are: {known}.")
    result = echo_destination(found[0], settings.listener.ae_title, orthanc=settings.orthanc)
    if not result.answered:
        raise refuse(f"{_address(found[0])}: {result.message}", FAILED)
    print(f"{_address(found[0])}: {result.message}")


def _address(destination: "AnyDestination") -> str:
    from plugin.settings.destinations import OrthancDestinationSettings, StowDestinationSettings

    if isinstance(destination, StowDestinationSettings):
        return f"{destination.name} ({destination.url})"
    if isinstance(destination, OrthancDestinationSettings):
        return f"{destination.name} (Orthanc{_on_to(destination)})"
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"


def _on_to(destination: "OrthancDestinationSettings") -> str:
    further = destination.modality or destination.peer
    return f", on to {further}" if further else ""


def load_settings_or_exit(config: Path | None) -> "Settings":
    """The settings; ends the command with a sentence where they cannot be read."""
    from plugin.settings.load import load_settings

    try:
        return load_settings(config)
    except GlionodeError as exc:
        raise refuse(str(exc)) from exc


def _intended_use(settings: "Settings") -> tuple[IntendedUse | None, str]:
    try:
        return find_package(settings.model.name, settings.installed_models_dir).intended_use, ""
    except PackageBroken as exc:
        return None, str(exc)


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
        print(f"Storage commitment: {found.commitments_pending} requests wait for their reports")
    if found.refused:
        print("Refused peers: " + ", ".join(f"{count} {reason}" for reason, count in found.refused.items()))
    if not found.database_answers:
        print("Jobs: the database does not answer")
    else:
        urgent = f" ({found.urgent_waiting} of those that wait are urgent)" if found.urgent_waiting else ""
        print("Jobs: " + (", ".join(f"{count} {state}" for state, count in found.jobs.items()) or "none") + urgent)
    if found.destinations:
        table = Table("Destination", "Objects", "Last error")
        for each in found.destinations:
            counts = ", ".join(f"{count} {state}" for state, count in each.objects.items()) or "none"
            table.add_row(each.name, counts, each.refused_because or each.last_error or "")
        print_table(table)
    for trouble in found.troubles:
        print(f"Trouble: {trouble.at} {trouble.place}: {trouble.message}")
