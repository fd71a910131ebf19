"""A temporary folder for files that a process downloads; folders of processes that died are removed.

<data folder>/fetched/<random>/      locked as long as its process lives
"""

import fcntl
import shutil
import uuid
from pathlib import Path
from typing import TextIO

_LOCK = "lock"


class Spool:
    """This process's own folder. `close` removes it, or else the next process that opens a spool there."""

    def __init__(self, data_dir: Path) -> None:
        root = data_dir / "fetched"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)  # it holds patients' images
        self._root = root / uuid.uuid4().hex
        self._root.mkdir(mode=0o700)
        self._lock = (self._root / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for other in root.iterdir():
            if other != self._root:
                _remove_orphan(other)

    def make_folder(self) -> Path:
        """Create a new folder in it; the caller removes it after use."""
        made = self._root / uuid.uuid4().hex
        made.mkdir(mode=0o700)
        return made

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._lock.close()


def _remove_orphan(folder: Path) -> None:
    try:
        lock: TextIO
        with (folder / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its process lives, or is just creating it
        return
