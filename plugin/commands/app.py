"""The command `glionode`. Each command's own module is imported as it is registered; none imports torch for that."""

import logging
from typing import Annotated

import typer

from plugin.commands.check import check
from plugin.commands.classify import classify, inspect
from plugin.commands.dataset import dataset_app
from plugin.commands.explain import explain
from plugin.commands.jobs import add_job_commands
from plugin.commands.models import models_app
from plugin.commands.node import add_node_commands
from plugin.commands.orders import add_order_commands
from plugin.commands.parts import add_part_commands
from plugin.commands.phantom import add_phantom_commands
from plugin.commands.reader_study import reader_study_app
from plugin.commands.segment import segment
from plugin.commands.terminal import WRONG_USAGE
from plugin.commands.training import add_training_commands
from plugin.commands.xnat import xnat_session
from plugin.logs import set_up_logging

app = typer.Typer(
    name="glionode",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segment adult-type diffuse gliomas on MR: DICOM in, DICOM SEG and SR out.\n\n"
    "The bundled model is a demonstration, trained on synthetic heads. It is not for patients.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"glionode {version('glionode')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of every command."""
    set_up_logging(logging.INFO if verbose else logging.ERROR)


app.command()(segment)
app.command()(explain)
app.command()(inspect)
app.command()(classify)
app.command()(check)
app.command("xnat-session")(xnat_session)
add_phantom_commands(app)
add_node_commands(app)
add_part_commands(app)
add_job_commands(app)
add_order_commands(app)
app.add_typer(models_app, name="models")
app.add_typer(dataset_app, name="dataset")
add_training_commands(app)
app.add_typer(reader_study_app, name="reader-study")


def main() -> None:
    """Run the command line; wrong usage ends with 64, because 2 means "not eligible" here."""
    usage_error = typer.BadParameter.__mro__[1]
    usage_error.exit_code = WRONG_USAGE  # type: ignore[attr-defined]
    app(prog_name="glionode")
