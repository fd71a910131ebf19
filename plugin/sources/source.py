"""Where a worker has a study's images from, and where its results go: a disk that it shares, or the archive's host.

A result is kept where it survives the worker's host before anything says that there is one.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from plugin.archive.spool import Spool
from plugin.archive.store import Archive, InstanceKey, WrongUid, results_folder
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.errors import ArchiveAway
from plugin.http.archive_client import ArchiveClient
from plugin.http.transfer import pack
from plugin.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a worker has before it while it is at a job."""

    paths: tuple[Path, ...]
    """The images."""
    results: Path
    """Where the result folder is to be made; its parent is there."""


class StudySource(Protocol):
    """What a worker needs of the archive."""

    def inputs(self, job: Job) -> StudyInputs:
        """The MR images of its study as they are known now; their paths are for `bench` only. Raises ArchiveAway."""

    def bench(self, job: Job, inputs: StudyInputs) -> AbstractContextManager[Workspace]:
        """Lay the images out for as long as the block runs. Raises ArchiveAway, NotInArchive."""

    def keep(self, job: Job, results: Path) -> Path:
        """Bring a complete result folder of the bench to the archive; gives its path there. Raises ArchiveAway."""

    def close(self) -> None:
        """Leave nothing behind."""


class DiskSource:
    """The archive lies on a disk of this host; results are made where they belong."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def inputs(self, job: Job) -> StudyInputs:
        """Look at the head of each of the study's files."""
        return read_inputs(self._archive, job.study_instance_uid)

    @contextmanager
    def bench(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        """They lie there already."""
        results = results_folder(self._archive.data_dir, job.study_instance_uid, job.key)
        results.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield Workspace(inputs.paths, results)

    def keep(self, job: Job, results: Path) -> Path:
        """It was made where it belongs."""
        return results

    def close(self) -> None:
        """Nothing was fetched."""


class HttpSource:
    """The archive is another host's; images are fetched for the time of a job, and results sent when they are whole."""

    def __init__(self, client: ArchiveClient, spool: Spool) -> None:
        self._client = client
        self._spool = spool

    def inputs(self, job: Job) -> StudyInputs:
        """Ask for the list. The paths are the archive's, relative to it."""
        study_instance_uid = job.study_instance_uid
        answer: Any = self._client.get_json(f"/api/studies/{study_instance_uid}/instances")
        try:
            keys = [
                InstanceKey(study_instance_uid, str(each["series"]), str(each["instance"])) for each in answer["images"]
            ]
            others = int(answer["other_instances"])
        except (KeyError, TypeError, WrongUid) as exc:
            raise ArchiveAway("What answers as the archive is none of this version of glionode.") from exc
        paths = tuple(Path(key.series_instance_uid, f"{key.sop_instance_uid}.dcm") for key in keys)
        return StudyInputs(paths, tuple(key.sop_instance_uid for key in keys), others)

    @contextmanager
    def bench(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        """Fetch them, and remove them and the result after the block."""
        folder = self._spool.folder()
        try:
            for path in inputs.paths:
                target = folder / path
                target.parent.mkdir(mode=0o700, exist_ok=True)
                place = f"series/{path.parent.name}/instances/{path.stem}"
                self._client.fetch(f"/api/studies/{job.study_instance_uid}/{place}", target)
            yield Workspace(tuple(folder / path for path in inputs.paths), folder / "results")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, job: Job, results: Path) -> Path:
        """Send it in one piece. Sent twice it is kept once."""
        with tempfile.TemporaryFile(dir=results.parent) as packed:
            pack(results, packed)
            packed.seek(0)
            sha256 = hashlib.file_digest(packed, "sha256").digest()
            answer: Any = self._client.put(f"/api/results/{job.key}", packed, sha256)
        return Path(str(answer["folder"]))

    def close(self) -> None:
        """Hang up and remove the spool."""
        self._client.close()
        self._spool.close()
