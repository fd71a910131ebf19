"""Keep received instances on disk, byte for byte.

    archive/<study UID>/<series UID>/<SOP instance UID>.dcm
    archive/<study UID>/<series UID>/*.replaced                  see replaced_files.py
    archive/<study UID>/urgent                                   marks a study that goes before others

An instance is written to a file in `incoming/` as it comes, synced, linked to its final name, and the folders are
synced; then it is acknowledged. A file that is left in `incoming/` at the next start was never acknowledged and is
removed.
"""

import filecmp
import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from pipeline.atomic_write import make_folders, sync_folder
from plugin.archive.folder_sync import FolderSync
from plugin.archive.incoming_file import IncomingFile, NoRoom, disk_errors_as_no_room
from plugin.archive.replaced_files import replace_file, replaced_files, replacing_files

_LOG = logging.getLogger(__name__)

URGENT_MARK = "urgent"
"""A file in the folder of a study that goes before others."""
# PS3.5 9.1: digits and dots, at most 64 characters. Leading zeros are accepted: they do no harm in a file name.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


_MOST_SYNCED = 10_000
"""Folders of series that are remembered as synced; each further one only costs its syncs again."""


class WrongUid(ValueError):
    """A text that is not a UID, and so must not become part of a path."""


class Stored(StrEnum):
    """The outcome of storing an instance."""

    NEW = "new"
    SAME = "same"
    """The archive had it already, byte for byte."""
    DIFFERENT = "different"
    """The archive has other bytes under its UID, and kept them. The new ones are still in their file."""


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """The UIDs that make up the path of an instance. Raises WrongUid."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    def __post_init__(self) -> None:
        for name, uid in (
            ("StudyInstanceUID", self.study_instance_uid),
            ("SeriesInstanceUID", self.series_instance_uid),
            ("SOPInstanceUID", self.sop_instance_uid),
        ):
            if not is_uid(uid):
                raise WrongUid(f"{name} is not digits and dots, at most 64 characters")


def is_uid(text: str) -> bool:
    """Return whether a text is a UID, and so safe as a file name."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that was stored, or that took the place of another."""

    key: InstanceKey
    sha256: str
    """Of its file as it was received, hexadecimal."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IndexedInstance:
    """What the index says of an instance that was received."""

    key: InstanceKey
    sop_class_uid: str
    size_bytes: int
    """Of its file when it was received."""


class Index(Protocol):
    """What remembers beside the files which instances were received."""

    def note(self, stored: StoredInstance) -> None:
        """Note an instance whose file is on disk. Must not wait."""

    def received_sha256(self, key: InstanceKey) -> str:
        """Return the digest of an instance's file as it was received, hexadecimal; empty where it is not known."""

    def find(self, sop_instance_uids: Collection[str]) -> list[IndexedInstance] | None:
        """Return the instances with these UIDs; None where only the files can say."""


FolderTimes = tuple[tuple[str, int], ...]
"""Series instance UIDs, sorted, with the times of their folders in nanoseconds since 1970."""


class Archive(Protocol):
    """The interface of an archive of received instances."""

    @property
    def data_dir(self) -> Path:
        """The node's data folder, which the archive is in."""

    def studies(self) -> tuple[str, ...]:
        """The study instance UIDs, sorted."""

    def files(self, study_instance_uid: str) -> tuple[Path, ...]:
        """The study's instances as DICOM files, sorted by path; empty where there is no such study."""

    def last_received(self, study_instance_uid: str) -> float | None:
        """When the study last got an instance, in seconds since 1970; None where there is no such study."""

    def folder_times(self, study_instance_uid: str) -> FolderTimes:
        """The study's series with the times of their folders: another value whenever a file came or was replaced."""

    def bring_back_times(self, study_instance_uid: str, now: float) -> None:
        """Give series folders whose times are later than `now` (seconds since 1970) this time."""

    def first_received(self, study_instance_uid: str, longest_pause_s: float) -> float | None:
        """When the first instance came of those that followed each other without a longer pause, up to the last one.

        In seconds since 1970; None where there is no such study.
        """

    def is_urgent(self, study_instance_uid: str) -> bool:
        """Whether the study is marked as urgent."""

    def mark_urgent(self, study_instance_uid: str) -> None:
        """Mark a study with instances as urgent; the mark is removed with them."""

    def create_file(self) -> IncomingFile:
        """Create a file to write an instance to. Raises NoRoom."""

    def store(self, key: InstanceKey, incoming: IncomingFile) -> Stored:
        """Store an instance, durably when this returns; `incoming` is gone then, unless DIFFERENT. Raises NoRoom."""

    def path(self, key: InstanceKey) -> Path:
        """Return the path of an instance, whether it exists or not."""

    def received_sha256(self, key: InstanceKey) -> str:
        """Return the digest of an instance's file as it was received, hexadecimal; empty where it is not known."""

    def find(self, sop_instance_uids: Collection[str]) -> list[IndexedInstance] | None:
        """Return the instances with these UIDs, whose files may be gone; None where only the files can say."""

    def replace(self, key: InstanceKey, incoming: IncomingFile) -> None:
        """Let a file take the place of an instance, which is kept; `incoming` is gone then. Raises NoRoom."""

    def replaced(self, key: InstanceKey) -> tuple[Path, ...]:
        """The files of an instance that others took the place of, oldest first."""

    def count_replacements(self, study_instance_uid: str) -> int:
        """How often a file of the study took the place of another."""


class EmbeddedArchive:
    """The archive in the node's data folder."""

    def __init__(self, root: Path, minimum_free_bytes: int) -> None:
        self._root = root
        self._incoming = root.parent / "incoming"
        self._minimum_free_bytes = minimum_free_bytes
        self._folder_sync = FolderSync()
        self.index: Index | None = None
        """Is told of each instance that is stored; None where nobody keeps an index."""
        self._synced: dict[Path, int] = {}
        """Folders of series whose own names are on disk, with their inode numbers: a purge makes way for new ones."""

    def open(self) -> int:
        """Create the folders and remove unfinished files of an earlier run; return how many there were."""
        for folder in (self._root, self._incoming):
            make_folders(folder, within=self.data_dir, mode=0o700)
            folder.chmod(0o700)
        unfinished = list(self._incoming.glob("*.part"))
        for path in unfinished:
            path.unlink(missing_ok=True)
        return len(unfinished)

    @property
    def data_dir(self) -> Path:
        """The node's data folder, which the archive is in."""
        return self._root.parent

    @property
    def free_bytes(self) -> int:
        """Free space of the disk that the archive is on."""
        return shutil.disk_usage(self._root).free

    def studies(self) -> tuple[str, ...]:
        """The study instance UIDs, sorted."""
        return tuple(sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir() and is_uid(entry.name)))

    def files(self, study_instance_uid: str) -> tuple[Path, ...]:
        """The study's instances, sorted by path."""
        return tuple(sorted(self._study(study_instance_uid).glob("*/*.dcm")))

    def path(self, key: InstanceKey) -> Path:
        """Return the path of an instance, whether it exists or not."""
        return self._study(key.study_instance_uid) / key.series_instance_uid / f"{key.sop_instance_uid}.dcm"

    def last_received(self, study_instance_uid: str) -> float | None:
        """When the study last got an instance, by its series folders: their times change with each new link in them."""
        times = [entry.stat().st_mtime for entry in self._series(study_instance_uid)]
        return max(times, default=None)

    def folder_times(self, study_instance_uid: str) -> FolderTimes:
        """The study's series with the times of their folders, which change with each link or rename in them."""
        found = []
        for entry in self._series(study_instance_uid):
            with suppress(FileNotFoundError):  # purged just now
                found.append((entry.name, entry.stat().st_mtime_ns))
        return tuple(sorted(found))

    def bring_back_times(self, study_instance_uid: str, now: float) -> None:
        """Give series folders whose times are later than `now` this time. An error of the disk is only logged."""
        for series, time_ns in self.folder_times(study_instance_uid):
            if time_ns > now * 1e9:
                try:
                    os.utime(self._study(study_instance_uid) / series, (now, now))
                except OSError as exc:
                    _LOG.warning("series %s keeps a time that is to come (%s)", series, exc.strerror)

    def first_received(self, study_instance_uid: str, longest_pause_s: float) -> float | None:
        """When the first came of the instances after the last longer pause, by the times of their files."""
        times = sorted((path.stat().st_mtime for path in self.files(study_instance_uid)), reverse=True)
        if not times:
            return None
        pauses = (newer for newer, older in pairwise(times) if newer - older > longest_pause_s)
        return next(pauses, times[-1])

    def is_urgent(self, study_instance_uid: str) -> bool:
        """Whether the study has the mark, a file beside its series folders."""
        return (self._study(study_instance_uid) / URGENT_MARK).exists()

    def mark_urgent(self, study_instance_uid: str) -> None:
        """Mark a study as urgent, durably when this returns. An error of the disk is only logged."""
        study = self._study(study_instance_uid)
        try:
            if not (study / URGENT_MARK).exists():
                (study / URGENT_MARK).touch(mode=0o600)
                sync_folder(study)
        except OSError as exc:
            _LOG.warning("study %s could not be marked as urgent (%s)", study_instance_uid, exc.strerror)

    def create_file(self) -> IncomingFile:
        """Create a file in `incoming/`, which is on the archive's file system. Raises NoRoom."""
        return IncomingFile(self._incoming / f"{uuid.uuid4().hex}.part", self._require_room)

    def store(self, key: InstanceKey, incoming: IncomingFile) -> Stored:
        """Store an instance: sync, link, sync the folders. `incoming` is gone then, unless DIFFERENT. Raises NoRoom."""
        final = self.path(key)
        series = final.parent
        outcome = Stored.NEW
        try:
            incoming.sync()
            with disk_errors_as_no_room():
                try:
                    self._link(incoming.path, final)
                except FileExistsError:
                    outcome = Stored.SAME if _same_bytes(incoming.path, final) else Stored.DIFFERENT
                # Also for a repeated instance: the thread that linked it first may not have synced yet.
                self._folder_sync.sync(series)
            if outcome is Stored.NEW:
                self._note(key, incoming)
        finally:
            if outcome is not Stored.DIFFERENT:
                incoming.discard()
        return outcome

    def replace(self, key: InstanceKey, incoming: IncomingFile) -> None:
        """Let a file take the place of an instance; `incoming` is gone then.

        Raises NoRoom, and FileNotFoundError where the archive has no such instance.
        """
        try:
            incoming.sync()
            with disk_errors_as_no_room():
                replace_file(self.path(key), incoming.path)
            self._note(key, incoming)
        finally:
            incoming.discard()

    def received_sha256(self, key: InstanceKey) -> str:
        """Return the digest of an instance's file as it was received, hexadecimal; empty where it is not known."""
        return self.index.received_sha256(key) if self.index is not None else ""

    def find(self, sop_instance_uids: Collection[str]) -> list[IndexedInstance] | None:
        """Return the instances with these UIDs, whose files may be gone; None where only the files can say."""
        return self.index.find(sop_instance_uids) if self.index is not None else None

    def _note(self, key: InstanceKey, incoming: IncomingFile) -> None:
        if self.index is not None:
            self.index.note(StoredInstance(key, incoming.sha256, incoming.size_bytes))

    def replaced(self, key: InstanceKey) -> tuple[Path, ...]:
        """The files of an instance that others took the place of, oldest first."""
        return replaced_files(self.path(key))

    def count_replacements(self, study_instance_uid: str) -> int:
        """How often a file of the study took the place of another."""
        return sum(len(replaced_files(path)) for path in replacing_files(self._study(study_instance_uid)))

    def _require_room(self) -> None:
        free = self.free_bytes
        if free < self._minimum_free_bytes:
            raise NoRoom(f"{free >> 20} MiB are free, the minimum is {self._minimum_free_bytes >> 20} MiB")

    def _study(self, study_instance_uid: str) -> Path:
        if not is_uid(study_instance_uid):
            raise WrongUid("StudyInstanceUID is not digits and dots, at most 64 characters")
        return self._root / study_instance_uid

    def _series(self, study_instance_uid: str) -> list[os.DirEntry[str]]:
        try:
            return [entry for entry in os.scandir(self._study(study_instance_uid)) if entry.is_dir()]
        except FileNotFoundError:
            return []

    def _link(self, path: Path, final: Path) -> None:
        """Give a file its final name. Raises FileExistsError; unlike a rename, a link never replaces a file."""
        while True:
            self._make_series(final.parent)
            try:
                return os.link(path, final)
            except FileNotFoundError:
                if not path.exists():
                    raise
                # A purge took the folder of the study meanwhile, and checks it; this instance begins a new one.

    def _make_series(self, series: Path) -> None:
        """Make the folder of a series; its name and that of its study are on disk when this returns.

        A folder that is there may be one that another thread has just made and not synced yet.
        """
        # Looked at before the syncs, so that the number is never that of a folder which another thread makes meanwhile.
        found = _inode(series)
        if found is not None and self._synced.get(series) == found:
            return
        make_folders(series, within=self._root, mode=0o700)
        if found is not None:
            if len(self._synced) >= _MOST_SYNCED:
                self._synced.clear()
            self._synced[series] = found


def _same_bytes(incoming: Path, final: Path) -> bool:
    """Return whether two files are the same; False where the archived one cannot be read."""
    try:
        return filecmp.cmp(incoming, final, shallow=False)
    except OSError:
        return False


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def results_root(data_dir: Path) -> Path:
    """Return the folder of all results."""
    return data_dir / "results"


def results_folder(data_dir: Path, study_instance_uid: str, job_key: str) -> Path:
    """Return the folder of a job's results. Its name is a hash of the key, so that its length is bounded."""
    return results_root(data_dir) / study_instance_uid / hashlib.sha256(job_key.encode()).hexdigest()[:16]
