"""The commands that keep a node for after its disk: `glionode backup`, `restore`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.jobs import open_database
from plugin.commands.options import ConfigOption, JsonOption, load_settings_or_exit
from plugin.commands.terminal import FAILED, complain, refuse, refusing


def backup(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create, on another disk.")],
    with_images: Annotated[
        bool,
        typer.Option("--with-images", help="Copy the received images, too. Without, the backup names them by digest."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of the node, which may run: database, results, and images or their digests.

    It is consistent: the database as it was at one time, and every file that it speaks of. OUT appears when the backup
    is whole, and its digests were read back; it holds patient data. Exit status: 0 made, 1 not made, or made and
    results that are still to be sent are missing or damaged on the node.
    """
    from plugin.backup.create import create_backup

    with open_database(config, reading=True) as (settings, database):
        if settings.http.archive_url:
            raise refuse(
                "http.archive_url is set: images and results lie with `glionode listen`; run this on its host."
            )
        made = create_backup(settings.data_dir, database, out.absolute(), with_images)
    if as_json:
        print(json.dumps(asdict(made), indent=1))
    else:
        print(f"Backup: {made.folder}, schema {made.schema}, {made.jobs} jobs")
        print(f"Files: {made.copied_files} copied, {made.copied_bytes >> 20} MB")
        if made.named_images:
            print(
                f"Images: {made.named_images} named by their digests, not copied; back up {settings.data_dir}/archive"
            )
    if made.damaged:
        complain(
            f"{len(made.damaged)} results that are still to be sent are missing or damaged on the node, such as "
            f"{made.damaged[0]}; `glionode jobs` tells what becomes of them."
        )
        raise typer.Exit(FAILED)


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that `glionode backup` made.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Data folder, or a copy of one, with the images that the backup only names."),
    ] = None,
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Leave out images that are nowhere; they must be sent again.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Restore a backup into the empty data folder and the empty database of the settings.

    All digests are checked before anything is changed. Start `glionode serve` afterwards: jobs and deliveries go on
    where they were. Exit status: 0 restored, 1 not restored.
    """
    from plugin.backup.restore import check_backup, restore_backup

    settings = load_settings_or_exit(config)
    with refusing(GlionodeError):
        checked = check_backup(backup.absolute(), images.absolute() if images else None, without_images)
        restore_backup(checked, settings)
    manifest = checked.manifest
    print(f"Restored: the node as it was at {manifest.made_at}, {len(checked.files)} files, in {settings.data_dir}")
    if checked.missing_images:
        print(f"Left out: {checked.missing_images} images; have their senders send them again.")
