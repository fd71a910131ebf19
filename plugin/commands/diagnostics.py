"""The command `glionode diagnostics`, which collects what helps to find a fault."""

from pathlib import Path
from typing import Annotated

import typer

from plugin.commands.options import ConfigOption, load_settings_or_exit
from plugin.commands.terminal import FAILED, refuse, refusing_os_errors


def diagnostics(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="ZIP file to create.")], config: ConfigOption = None
) -> None:
    """Collect versions, settings, status, jobs and the last log lines in a ZIP file, to send with a report of a fault.

    It holds no image, no patient data and no secret. UIDs, AE titles, host names and addresses are replaced by
    pseudonyms that differ each time; look through it nevertheless before it leaves the site.
    """
    from plugin.node.diagnostics import write_diagnostics

    settings = load_settings_or_exit(config)
    if out.exists():
        raise refuse(f"{out} exists; name a new file.", FAILED)
    with refusing_os_errors(f"{out} cannot be written"):
        parts = write_diagnostics(settings, out)
    print(f"Written: {out} ({', '.join(parts)})")
