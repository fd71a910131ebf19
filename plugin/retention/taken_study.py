"""Take a study's folders away before they are removed, and put them back where the purge does not come about.

    archive/<study>  ──>  purging/<study>~<random>/archive/<study>
    results/<study>  ──>  purging/<study>~<random>/results/<study>

Nothing is added to what was taken. A row of `glionode_purges` with the folder's name is the decision to remove it:
while there is none, also after a crash, the study is put back.
"""

import filecmp
import os
import shutil
import uuid
from pathlib import Path

from pipeline.atomic_write import make_folders, sync_folder
from plugin.archive.replaced_files import keep_replaced
from plugin.archive.store import URGENT_MARK

PURGING = "purging"
_MARK = "~"
_PLACES = ("archive", "results")


class TakenStudy:
    """A study whose folders are being taken away, or were by a process that has ended."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self.name = name
        self.study = name.partition(_MARK)[0]
        self.folder = data_dir / PURGING / name
        self._data_dir = data_dir

    def take(self, place: str) -> Path:
        """Take the study's folder in "archive" or "results"; return where it is then.

        Raises FileNotFoundError where it has none.
        """
        folder, taken = self._data_dir / place / self.study, self.folder / place / self.study
        if not folder.is_dir():
            raise FileNotFoundError(folder.name)
        taken.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.rename(taken)
        return taken

    def sync(self) -> None:
        """Return when it is on disk that the folders were taken."""
        places = [self.folder / place for place in _PLACES if (self.folder / place).is_dir()]
        for folder in (*places, self.folder, self.folder.parent, self._data_dir):
            sync_folder(folder)
        for place in places:
            sync_folder(self._data_dir / place.name)

    def put_back(self) -> None:
        """Put everything back, durably, beside what has come meanwhile; nothing that came is lost."""
        for place in _PLACES:
            taken = self.folder / place / self.study
            if taken.is_dir():
                put_back(taken, self._data_dir / place / self.study)
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove what was taken. What a failing disk keeps of it, the next attempt removes."""
        shutil.rmtree(self.folder, ignore_errors=True)


def new_taken_study(data_dir: Path, study: str) -> TakenStudy:
    """Return a study under a new name; nothing of it is taken yet."""
    return TakenStudy(data_dir, f"{study}{_MARK}{uuid.uuid4().hex}")


def taken_studies(data_dir: Path) -> tuple[TakenStudy, ...]:
    """Return the studies that are being purged, or whose purge was interrupted."""
    root = data_dir / PURGING
    names = sorted(entry.name for entry in os.scandir(root) if _MARK in entry.name) if root.is_dir() else ()
    return tuple(TakenStudy(data_dir, name) for name in names)


def put_back(taken: Path, folder: Path) -> None:
    """Move the files below `taken` to `folder`, durably.

    Where a file has come meanwhile under the name of another one, that one counts as replaced by it.
    """
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        taken.rename(folder)  # fails where it is there again, unless it is empty
        sync_folder(folder.parent)
        return
    except OSError:
        pass
    for path in sorted(taken.glob("*/*")):
        place = folder / path.relative_to(taken)
        make_folders(place.parent, within=folder.parent, mode=0o700)
        try:
            os.link(path, place)  # unlike a rename, a link never replaces an existing file
        except FileExistsError:
            if not filecmp.cmp(path, place, shallow=False):
                keep_replaced(place, path)
    if (taken / URGENT_MARK).exists():
        (folder / URGENT_MARK).touch(mode=0o600)
    for each in (*folder.glob("*/"), folder):
        sync_folder(each)
    shutil.rmtree(taken)
