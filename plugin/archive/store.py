"""Instances on disk, as they were received. Knows files and UIDs; no network, no database, no pixels.

    archive/<study UID>/<series UID>/<SOP instance UID>.dcm
    archive/<study UID>/urgent                                   where the study is to go first

An instance is there when its final name is there: it is written to `incoming/` as it comes, synced, linked to its name
and the folders are synced. What stands in `incoming/` at a start was never acknowledged and is removed.
"""

import filecmp
import hashlib
import logging
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pipeline.atomic_write import sync_folder
from plugin.archive.folder_sync import FolderSync
from plugin.archive.incoming_file import IncomingFile, NoRoom, full_disk_is_no_room

_LOG = logging.getLogger(__name__)

URGENT_MARK = "urgent"
"""A file in a study's folder, where the study is to go first."""
# PS3.5 9.1: digits and dots, at most 64 characters. Leading zeros are let pass: they do no harm in a file's name.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class WrongUid(ValueError):
    """A UID that is none, and so must not become a path."""


class Stored(StrEnum):
    """What became of an instance."""

    NEW = "new"
    SAME = "same"
    """It was there already, byte for byte."""
    DIFFERENT = "different"
    """Other bytes are there under its UID; they were kept and the new ones thrown away."""


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """The UIDs that say where an instance lies. Raises WrongUid."""

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
    """Whether a text is a UID, and so safe as the name of a file."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


class Archive(Protocol):
    """Where received instances are kept."""

    @property
    def data_dir(self) -> Path:
        """The folder around it, of everything that the node keeps."""

    def studies(self) -> tuple[str, ...]:
        """Study instance UIDs, sorted."""

    def files(self, study_instance_uid: str) -> tuple[Path, ...]:
        """The study's instances as DICOM files, sorted by path; empty where the study is not there."""

    def last_received(self, study_instance_uid: str) -> float | None:
        """When the study last got an instance, seconds since 1970; None where the study is not there."""

    def first_received(self, study_instance_uid: str) -> float | None:
        """When the study got its first instance, seconds since 1970; None where the study is not there."""

    def is_urgent(self, study_instance_uid: str) -> bool:
        """Whether the study is marked as urgent."""

    def mark_urgent(self, study_instance_uid: str) -> None:
        """Mark a study of which there are instances as urgent, as long as they are there."""

    def begin(self) -> IncomingFile:
        """A new file to write an instance to. Raises NoRoom."""

    def store(self, key: InstanceKey, incoming: IncomingFile) -> Stored:
        """Keep an instance, durably when this returns; `incoming` is used up. Raises NoRoom."""


class EmbeddedArchive:
    """The archive in the node's own data folder."""

    def __init__(self, root: Path, minimum_free_bytes: int) -> None:
        self._root = root
        self._incoming = root.parent / "incoming"
        self._minimum_free_bytes = minimum_free_bytes
        self._folder_sync = FolderSync()

    def open(self) -> int:
        """Make the folders and remove what an earlier run left unfinished; returns how many files that were."""
        for folder in (self._root, self._incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        leftovers = list(self._incoming.glob("*.part"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    @property
    def data_dir(self) -> Path:
        """The folder around it, of everything that the node keeps."""
        return self._root.parent

    @property
    def free_bytes(self) -> int:
        """Free space where the archive lies."""
        return shutil.disk_usage(self._root).free

    def studies(self) -> tuple[str, ...]:
        """Study instance UIDs, sorted."""
        return tuple(sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir() and is_uid(entry.name)))

    def files(self, study_instance_uid: str) -> tuple[Path, ...]:
        """The study's instances, sorted by path."""
        return tuple(sorted(self._study(study_instance_uid).glob("*/*.dcm")))

    def path(self, key: InstanceKey) -> Path:
        """Where an instance lies, or would."""
        return self._study(key.study_instance_uid) / key.series_instance_uid / f"{key.sop_instance_uid}.dcm"

    def last_received(self, study_instance_uid: str) -> float | None:
        """From the series folders' times: they change with each instance that is linked into them."""
        times = [entry.stat().st_mtime for entry in self._series(study_instance_uid)]
        return max(times, default=None)

    def first_received(self, study_instance_uid: str) -> float | None:
        """From the files' times."""
        return min((path.stat().st_mtime for path in self.files(study_instance_uid)), default=None)

    def is_urgent(self, study_instance_uid: str) -> bool:
        """By a file beside the series' folders."""
        return (self._study(study_instance_uid) / URGENT_MARK).exists()

    def mark_urgent(self, study_instance_uid: str) -> None:
        """Durable when this returns. A disk that does not take the mark is logged only: the instances are kept."""
        study = self._study(study_instance_uid)
        try:
            if not (study / URGENT_MARK).exists():
                (study / URGENT_MARK).touch(mode=0o600)
                sync_folder(study)
        except OSError as exc:
            _LOG.warning("study %s is urgent, which could not be noted (%s)", study_instance_uid, exc.strerror)

    def begin(self) -> IncomingFile:
        """A new file in `incoming/`, which is on the archive's file system. Raises NoRoom."""
        return IncomingFile(self._incoming / f"{uuid.uuid4().hex}.part", self._require_room)

    def store(self, key: InstanceKey, incoming: IncomingFile) -> Stored:
        """Keep an instance: sync, link, sync the folders. `incoming` is used up. Raises NoRoom."""
        final = self.path(key)
        series = final.parent
        try:
            incoming.sync()
            with full_disk_is_no_room():
                self._make_series(series)
                try:
                    os.link(incoming.path, final)  # unlike a rename, it never replaces what is there
                    outcome = Stored.NEW
                except FileExistsError:
                    outcome = Stored.SAME if filecmp.cmp(incoming.path, final, shallow=False) else Stored.DIFFERENT
                # Also for a repeated instance: whoever linked it first may not have come to this line yet.
                self._folder_sync.sync(series)
        finally:
            incoming.discard()
        return outcome

    def _require_room(self) -> None:
        free = self.free_bytes
        if free < self._minimum_free_bytes:
            raise NoRoom(f"{free >> 20} MiB are free, the floor is {self._minimum_free_bytes >> 20} MiB")

    def _study(self, study_instance_uid: str) -> Path:
        if not is_uid(study_instance_uid):
            raise WrongUid("StudyInstanceUID is not digits and dots, at most 64 characters")
        return self._root / study_instance_uid

    def _series(self, study_instance_uid: str) -> list[os.DirEntry[str]]:
        try:
            return [entry for entry in os.scandir(self._study(study_instance_uid)) if entry.is_dir()]
        except FileNotFoundError:
            return []

    def _make_series(self, series: Path) -> None:
        if series.is_dir():
            return
        series.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(series.parent)
        sync_folder(self._root)


def results_root(data_dir: Path) -> Path:
    """The folder of all results."""
    return data_dir / "results"


def results_folder(data_dir: Path, study_instance_uid: str, job_key: str) -> Path:
    """Where the results of a job lie: a folder of its own, named by a hash so that its length is bounded."""
    return results_root(data_dir) / study_instance_uid / hashlib.sha256(job_key.encode()).hexdigest()[:16]
