"""Mark a data folder while a backup is restored into it, so that no node starts on half of one."""

from pathlib import Path

from pipeline.atomic_write import sync_folder, write_file
from pipeline.errors import SettingsWrong

RESTORE_MARK = "restore.incomplete"


def mark_restore(data_dir: Path) -> None:
    """Mark the folder, durably."""
    write_file(data_dir / RESTORE_MARK, "A restore into this folder has not come to its end.\n")


def unmark_restore(data_dir: Path) -> None:
    """Remove the mark, durably."""
    (data_dir / RESTORE_MARK).unlink()
    sync_folder(data_dir)


def refuse_half_restored(data_dir: Path) -> None:
    """Raise SettingsWrong if a restore into the folder was broken off."""
    if (data_dir / RESTORE_MARK).exists():
        raise SettingsWrong(
            f"A restore into {data_dir} was broken off. Empty that folder (and the database of database.url, where it "
            "has one), then run `glionode restore` again."
        )
