"""The command `glionode`. It imports the modules of all commands, and none of them imports torch for that."""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer
from typer.core import TyperGroup

from pipeline.errors import GlionodeError
from plugin.commands.adopt import adopt
from plugin.commands.backup import backup, restore
from plugin.commands.check import check
from plugin.commands.classify import classify, inspect
from plugin.commands.dataset import dataset_app
from plugin.commands.diagnostics import diagnostics
from plugin.commands.evaluate import evaluate
from plugin.commands.explain import explain
from plugin.commands.finetune import finetune
from plugin.commands.jobs import jobs, show
from plugin.commands.models import models_app
from plugin.commands.operations import cancel, force, purge, release, retry
from plugin.commands.phantom import demo, phantom
from plugin.commands.pretrain import pretrain
from plugin.commands.reader_study import reader_study_app
from plugin.commands.replacements import replacements
from plugin.commands.resend import resend
from plugin.commands.segment import segment
from plugin.commands.serve import deliver, listen, serve, work
from plugin.commands.status import check_config, echo, health, status
from plugin.commands.terminal import FAILED, WRONG_USAGE, complain
from plugin.commands.xnat import xnat_session
from plugin.errors import describe_failure, describe_outside_failure
from plugin.logs import set_up_logging

_GROUPS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Use": (segment, explain, inspect, classify, check, phantom, demo, xnat_session),
    "Node": (
        *(serve, listen, work, deliver, status, health, check_config, echo),
        *(jobs, show, retry, resend, cancel, release, force, replacements, purge, adopt, backup, restore, diagnostics),
    ),
    "Models": (models_app,),
    "Data and training": (dataset_app, pretrain, finetune, evaluate, reader_study_app),
}
"""The commands in the groups and the order in which `glionode --help` shows them."""


def _name(command: Callable[..., None] | typer.Typer) -> str:
    """Return the name of a command, or of a group of commands."""
    return str(command.info.name) if isinstance(command, typer.Typer) else command.__name__.replace("_", "-")


class _InOrder(TyperGroup):
    """Lists the commands in the order of `_GROUPS`. Typer would list groups of commands first."""

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of all commands."""
        return [_name(command) for commands in _GROUPS.values() for command in commands]


app = typer.Typer(
    name="glionode",
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segment adult-type diffuse gliomas on MR: DICOM in, DICOM SEG and SR out.\n\n"
    "The bundled model is a demonstration, trained on synthetic heads. It is not for patients.",
)


def _version(requested: bool) -> None:
    if requested:
        from models.software_version import software_version

        print(f"glionode {software_version()}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Set up logging for every command."""
    set_up_logging(logging.INFO if verbose else logging.ERROR)


for _group, _commands in _GROUPS.items():
    for _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, rich_help_panel=_group)
        else:
            app.command(_name(_command), rich_help_panel=_group)(_command)


def main() -> None:
    """Run the command line. Wrong usage ends with status 64, because 2 means "not eligible" here.

    What the system, the disk or the database refuses ends with a sentence and status 1, as every other failure does.
    """
    usage_error = typer.BadParameter.__mro__[1]
    usage_error.exit_code = WRONG_USAGE  # type: ignore[attr-defined]
    try:
        app(prog_name="glionode")
    except Exception as exc:  # noqa: BLE001 - the last place where a traceback can become a sentence
        if describe_outside_failure(exc) is None and not isinstance(exc, GlionodeError):
            sys.stderr.writelines(traceback.format_tb(exc.__traceback__))  # the message may quote a header
        complain(f"glionode: {describe_failure(exc, with_path=True)}")
        sys.exit(FAILED)
