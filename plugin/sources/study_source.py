"""Give a worker the images of a study and take its results: on a shared disk, or over HTTP from the archive's host.

Results are stored where they survive the loss of the worker's host before the job is recorded as finished.
"""

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.atomic_write import make_folders
from plugin.archive.report_reader import REPORT_FILE
from plugin.archive.spool import Spool
from plugin.archive.store import Archive, InstanceKey, WrongUid, results_folder
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.errors import ArchiveUnavailable
from plugin.http.archive_client import ArchiveClient
from plugin.http.transfer import WrongTransfer, pack, parse_result_path, uploaded_folder_name
from plugin.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files that a worker uses while it runs a job."""

    paths: tuple[Path, ...]
    """Paths of the images of the job."""
    results: Path
    """The result folder to create; its parent exists. It is of this attempt alone: earlier results are elsewhere."""


class StudySource(Protocol):
    """What a worker needs from an archive."""

    def inputs(self, job: Job) -> StudyInputs:
        """Return the MR images of the job's study as known now; their paths are only for `workspace`.

        Raises ArchiveUnavailable.
        """

    def workspace(self, job: Job, inputs: StudyInputs) -> AbstractContextManager[Workspace]:
        """Provide the images as files for the duration of the block. Raises ArchiveUnavailable, NotInArchive."""

    def store_results(self, job: Job, results: Path) -> Path:
        """Store the complete result folder of a workspace in the archive, in a new folder; return its path there.

        It survives a power cut when this returns. Earlier results of the job stay as they are: the outbox may still
        have to send them. Raises ArchiveUnavailable.
        """

    def close(self) -> None:
        """Close connections and remove temporary files."""


class DiskSource:
    """An archive on a disk of this host; images are read in place, and results are made in their final folder.

    results/<study>/<hash of the job's key>-<random>/     one for each attempt; a purge of the study removes all
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def inputs(self, job: Job) -> StudyInputs:
        """Read the header of each of the study's files.

        An archive without any study has no images of a job that waits: these are purged after it. Raises
        ArchiveUnavailable for it, because what is gone as a whole is rather a disk that is not mounted.
        """
        found = read_inputs(self._archive, job.study_instance_uid)
        if not found.sop_instance_uids and not found.other_instances and not self._holds_any():
            raise ArchiveUnavailable(
                f"The archive in {self._archive.data_dir} is empty, though job {job.key} waits for images in it. Is "
                "the disk of storage.data_dir mounted? If the images are gone, cancel the job, and send the study "
                "again."
            )
        return found

    def _holds_any(self) -> bool:
        try:
            return bool(self._archive.studies())
        except FileNotFoundError:
            return False

    @contextmanager
    def workspace(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        """Provide the archive's own files and the name of a new result folder."""
        plain = results_folder(self._archive.data_dir, job.study_instance_uid, job.key)
        plain.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield Workspace(inputs.paths, plain.with_name(f"{plain.name}-{uuid.uuid4().hex[:16]}"))

    def store_results(self, job: Job, results: Path) -> Path:
        """Return `results`, which is already in the archive, once the names of the folders above it are on disk."""
        make_folders(results.parent, within=self._archive.data_dir, mode=0o700)
        return results

    def close(self) -> None:
        """Do nothing: no connection is open and no file was fetched."""


class HttpSource:
    """An archive on another host; images are fetched for the duration of a job, and complete results are uploaded."""

    def __init__(self, client: ArchiveClient, spool: Spool) -> None:
        self._client = client
        self._spool = spool

    def inputs(self, job: Job) -> StudyInputs:
        """Request the list of images; the returned paths are relative to the archive."""
        study_instance_uid = job.study_instance_uid
        answer: Any = self._client.get_json(f"/api/studies/{study_instance_uid}/instances")
        try:
            keys = [
                InstanceKey(study_instance_uid, str(each["series"]), str(each["instance"])) for each in answer["images"]
            ]
            others, replacements = int(answer["other_instances"]), int(answer["replacements"])
        except (KeyError, TypeError, WrongUid) as exc:
            raise ArchiveUnavailable(
                f"Study {study_instance_uid}: the answer at http.archive_url is not that of a node of this version; "
                "check the address, and run the same version of glionode on all hosts."
            ) from exc
        paths = tuple(Path(key.series_instance_uid, f"{key.sop_instance_uid}.dcm") for key in keys)
        return StudyInputs(paths, tuple(key.sop_instance_uid for key in keys), others, replacements=replacements)

    @contextmanager
    def workspace(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        """Fetch the images, and remove them and the results after the block."""
        folder = self._spool.make_folder()
        try:
            for path in inputs.paths:
                target = folder / path
                target.parent.mkdir(mode=0o700, exist_ok=True)
                resource = f"series/{path.parent.name}/instances/{path.stem}"
                self._client.fetch(f"/api/studies/{job.study_instance_uid}/{resource}", target)
            yield Workspace(tuple(folder / path for path in inputs.paths), folder / "results")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store_results(self, job: Job, results: Path) -> Path:
        """Upload the folder in one piece. The upload is idempotent: a second one does not add a second copy."""
        with tempfile.TemporaryFile(dir=results.parent) as packed:
            pack(results, packed)
            packed.seek(0)
            sha256 = hashlib.file_digest(packed, "sha256").digest()
            answer: Any = self._client.put(f"/api/results/{job.key}", packed, sha256)
        folder = str(answer.get("folder", "")) if isinstance(answer, dict) else ""
        try:
            stored = parse_result_path(f"{folder}/{REPORT_FILE}")[:2]
        except WrongTransfer:
            stored = ("", "")
        if stored != (job.study_instance_uid, uploaded_folder_name(job.key, sha256)):
            raise ArchiveUnavailable(
                f"The archive responded to the results of job {job.key} and does not name the folder that they would "
                "be in, so they do not count as stored; check http.archive_url, and run the same version of glionode "
                "on all hosts."
            )
        return Path(folder)

    def close(self) -> None:
        """Close the connection and remove the spool."""
        self._client.close()
        self._spool.close()
