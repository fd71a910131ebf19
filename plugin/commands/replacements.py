"""The command `glionode replacements`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from plugin.commands.jobs import open_database
from plugin.commands.options import ConfigOption, JsonOption, load_settings_or_exit
from plugin.commands.terminal import print_table, refusing


def replacements(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study instance UID.")],
    undo: Annotated[bool, typer.Option("--undo", help="Put the files of the patient before back in place.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the images of a study that came again for another patient, or whole, and took the place of the first.

    With --undo the images are for the patient before again, and the study is segmented once more; undone twice, they
    are as they were. No file is lost by either. Exit status: 0 done, 1 refused, with the reason.
    """
    from pipeline.errors import GlionodeError
    from plugin.node.replacements import list_replacements, undo_replacements

    if undo:
        with open_database(config) as (settings, database):
            done = undo_replacements(settings, database, study)
        text = f"{done.images} images are for the patient before again. Queued: {done.job}"
        print(json.dumps(asdict(done)) if as_json else text)
        return
    with refusing(GlionodeError):
        found = list_replacements(load_settings_or_exit(config).data_dir, study)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1))
        return
    table = Table("Series", "SOP instance UID", "Times", "Since", "Differs from the file before")
    for each in found:
        table.add_row(each.series_instance_uid, each.sop_instance_uid, str(each.times), each.since, each.differs)
    print_table(table)
