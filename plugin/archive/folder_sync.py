"""Sync a folder to disk once for all threads that wait for it.

Senders that store images of one series at the same time each wait for the folder's entries to be on disk. A disk syncs
a few thousand times a second, however many wait, so waiting threads share the next sync.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic_write import sync_folder


@dataclass(slots=True)
class _Syncs:
    """The syncs of one folder, counted."""

    begun: int = 0
    done: int = 0
    running: bool = False
    waiting: int = 0


class FolderSync:
    """Syncs folders for many threads: each waits for a sync that began after its call, whichever thread ran it."""

    def __init__(self) -> None:
        self._folders: dict[Path, _Syncs] = {}
        self._changed = threading.Condition()

    def sync(self, folder: Path) -> None:
        """Return when the entries that the folder has at the call are on disk. Raises OSError."""
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
        """Sync without the lock, which the caller holds."""
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
