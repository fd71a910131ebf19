"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.terminal import WRONG_USAGE, refusing

if TYPE_CHECKING:
    from plugin.settings.sections import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (glionode.toml).", show_default="$GLIONODE_CONFIG")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def load_settings_or_exit(config: Path | None) -> "Settings":
    """Load the settings, or end the command with a sentence if they cannot be read."""
    from plugin.settings.load import load_settings

    with refusing(GlionodeError, status=WRONG_USAGE):
        return load_settings(config)
