"""Syncing folders to disk, one sync for all who wait for it: a disk does a few thousand a second, whoever asks."""

import threading
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic_write import sync_folder


@dataclass(slots=True)
class _Syncs:
    """Those of one folder."""

    begun: int = 0
    done: int = 0
    running: bool = False
    waiting: int = 0


class FolderSync:
    """Thread-safe. A caller waits for a sync that began after its call, its own or another's."""

    def __init__(self) -> None:
        self._folders: dict[Path, _Syncs] = {}
        self._changed = threading.Condition()

    def sync(self, folder: Path) -> None:
        """Return when the folder's entries of this moment are on disk. Raises OSError."""
        with self._changed:
            syncs = self._folders.setdefault(folder, _Syncs())
            syncs.waiting += 1
            wanted = syncs.begun + 1
            try:
                while syncs.done < wanted:
                    if syncs.running:
                        self._changed.wait()
                    else:
                        self._run(folder, syncs)
            finally:
                syncs.waiting -= 1
                if not syncs.waiting:
                    self._folders.pop(folder, None)

    def _run(self, folder: Path, syncs: _Syncs) -> None:
        syncs.running = True
        syncs.begun += 1
        number = syncs.begun
        self._changed.release()
        try:
            sync_folder(folder)
        finally:
            self._changed.acquire()
            syncs.running = False
            self._changed.notify_all()
        syncs.done = number
