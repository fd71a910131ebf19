"""What a power cut would leave of a folder, by the least that POSIX promises: only what was synced is there.

A file has the content that it had when it was last synced, a folder the names that it had when it was; a file that has
a name and was never synced is empty. `os.fsync` of this process is watched. What was in the folder at first is on disk.
"""

import os
import stat
from pathlib import Path

import pytest


class DurableDisk:
    """The disk below a folder. Names that stand for the same file or folder have the same inode number."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        """Inode number and whether it is a folder, by name, for each folder."""
        self._contents: dict[int, bytes] = {}
        self._held: dict[int, int] = {}
        """A descriptor for each inode, so that its number is not given to another one."""
        self._real_fsync = os.fsync
        for path in (root, *root.rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            self._keep(descriptor)
            os.close(descriptor)
        monkeypatch.setattr(os, "fsync", self._fsync)

    def after_power_cut(self) -> dict[str, bytes]:
        """Return the files that are found after a power cut now, by path relative to the folder."""
        found: dict[str, bytes] = {}
        waiting = [(Path(), self._root.stat().st_ino)]
        while waiting:
            folder, inode = waiting.pop()
            for name, (number, is_folder) in self._names.get(inode, {}).items():
                if is_folder:
                    waiting.append((folder / name, number))
                else:
                    found[str(folder / name)] = self._contents.get(number, b"")
        return found

    def _fsync(self, descriptor: int) -> None:
        self._real_fsync(descriptor)
        self._keep(descriptor)

    def _keep(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}")
        self._hold(path)
        if stat.S_ISDIR(found.st_mode):
            names = {}
            for each in os.scandir(path):
                self._hold(Path(each.path))
                names[each.name] = (each.inode(), each.is_dir())
            self._names[found.st_ino] = names
        else:
            self._contents[found.st_ino] = path.read_bytes()

    def _hold(self, path: Path) -> None:
        descriptor = os.open(path, os.O_PATH)
        kept = self._held.setdefault(os.fstat(descriptor).st_ino, descriptor)
        if kept != descriptor:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the files."""
        while self._held:
            os.close(self._held.popitem()[1])
