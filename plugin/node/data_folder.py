"""Make the node's data folder, or check the one that is there: of this user, writable, closed to all others."""

import logging
import os
import pwd
import stat
from pathlib import Path

from pipeline.atomic_write import make_folders
from pipeline.errors import SettingsWrong

_LOG = logging.getLogger(__name__)

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITTEN = (
    *(
        "archive",
        "commitments",
        "fetched",
        "incoming",
        "logs",
        "postgres",
        "purged",
        "purging",
        "quarantine",
        "results",
    ),
    *("refusals.json", "serve.json", "serve.lock"),
)
"""What a node writes in its data folder."""
_NO_OTHERS = {*_WRITTEN, "models", "lost+found"}
"""What may lie in a folder that has not been a node's so far."""
_ADVICE = "Make it a writable folder of the user that runs the node, or choose another storage.data_dir."


def open_data_folder(data_dir: Path) -> None:
    """Make the folder with mode 0700, or check it and close it to other users, whatever the umask was.

    Raises SettingsWrong where it is no folder of this user's, cannot be written to, or is open to others and holds
    files that are not a node's.
    """
    try:
        if not data_dir.exists():
            make_folders(data_dir, mode=0o700)
        found = data_dir.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise SettingsWrong(f"The data folder {data_dir} is a file; remove it, or choose another storage.data_dir.")
        _require_owner(data_dir, found.st_uid)
        for part in (data_dir / name for name in _WRITTEN):
            if part.exists():
                _require_owner(part, part.stat().st_uid)
        if stat.S_IMODE(found.st_mode) & _OTHERS:
            _close_to_others(data_dir, found.st_mode)
        if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            why = "its file system is read-only" if os.statvfs(data_dir).f_flag & os.ST_RDONLY else "permission denied"
            raise SettingsWrong(f"The data folder {data_dir} cannot be written to: {why}. {_ADVICE}")
    except OSError as exc:
        raise SettingsWrong(f"The data folder {data_dir} cannot be used: {exc.strerror}. {_ADVICE}") from exc


def _require_owner(path: Path, owner: int) -> None:
    if owner != os.geteuid():
        raise SettingsWrong(
            f"{path} belongs to {_name(owner)}, and the node runs as {_name(os.geteuid())}; run it as that user, or "
            "give it all of storage.data_dir (chown -R), or choose another folder."
        )


def _close_to_others(data_dir: Path, mode: int) -> None:
    names = {each.name for each in data_dir.iterdir()}
    foreign = sorted(names - _NO_OTHERS)
    if foreign and names.isdisjoint(_WRITTEN):
        raise SettingsWrong(
            f"The data folder {data_dir} is open to other users and holds what is not a node's ({foreign[0]}). Choose "
            "another storage.data_dir, or close it with chmod 700 if it is for the node alone."
        )
    data_dir.chmod(0o700)
    _LOG.warning("closed the data folder %s to other users; its mode was %04o", data_dir, stat.S_IMODE(mode))


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
