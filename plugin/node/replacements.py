"""List the images of a study that took the place of others, and undo a correction of its patient.

Undoing is one more replacement: the file that was there comes back under the name, and the one that is there is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.header import NotDicom
from plugin.archive.compare_instances import compare_instances, name_tags, patient_changed, read_patient
from plugin.archive.incoming_file import IncomingFile, NoRoom
from plugin.archive.replaced_files import replaced_files, replacing_files
from plugin.archive.store import EmbeddedArchive, InstanceKey, is_uid
from plugin.archive.study_inputs import read_inputs
from plugin.database import audit_log, instance_rows
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.pool import Database
from plugin.jobs.archive_index import read_row
from plugin.jobs.job import new_job
from plugin.jobs.queue import JobQueue
from plugin.node.operations import OperationRefused
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package


@dataclass(frozen=True, slots=True)
class ReplacedImage:
    """An image that took the place of another, without a value of either."""

    series_instance_uid: str
    sop_instance_uid: str
    times: int
    """How often it was replaced."""
    since: str
    """When the file came that is there now, ISO 8601 with offset."""
    differs: str
    """The tags that differ from the file before."""


@dataclass(frozen=True, slots=True)
class UndoneReplacements:
    """The images that are for their former patient again, and the job of the study."""

    study_instance_uid: str
    images: int
    job: str


def list_replacements(data_dir: Path, study: str) -> tuple[ReplacedImage, ...]:
    """Return the images of a study that took the place of others, sorted by series and instance."""
    return tuple(_describe(path) for path in replacing_files(_folder(data_dir, study)))


def undo_replacements(settings: Settings, database: Database, study: str) -> UndoneReplacements:
    """Put the files of the patient before back in place, and queue the study.

    Raises:
        OperationRefused: no image of the study came for another patient, or the disk is full.
    """
    archive = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
    replacing = replacing_files(_folder(settings.data_dir, study))
    former = [(path, found) for path in replacing if (found := _former(path)) is not None]
    if not former:
        raise OperationRefused(f"No image of study {study} in the archive took the place of one of another patient.")
    try:
        for path, found in former:
            with _copied(archive, found) as incoming:
                archive.replace(InstanceKey(study, path.parent.name, path.stem), incoming)
    except NoRoom as exc:
        raise OperationRefused(f"The disk takes no copies: {exc}. Free some space, and undo it once more.") from exc
    rows = (read_row(InstanceKey(study, path.parent.name, path.stem), path, hashed=True) for path, _ in former)
    with database.pool.connection() as connection:
        instance_rows.upsert(connection, [row for row in rows if row is not None])
    inputs = read_inputs(archive, study)
    model = served_package(settings.model.name, settings.installed_models_dir)
    job = new_job(study, inputs.sop_instance_uids, model.sha256, replacements=inputs.replacements)
    detail = f"{len(former)} images are for the patient before again; the files that were there are kept"
    with database.pool.connection() as connection:
        audit_log.record(connection, AuditEvent.ORDERED, AuditSubject(study), detail)
    queue = JobQueue(database)
    added = queue.add(job) or queue.standing(job)
    return UndoneReplacements(study, len(former), added.key)


def _folder(data_dir: Path, study: str) -> Path:
    if not is_uid(study):
        raise OperationRefused(f"{study!r} is not a study instance UID.")
    return data_dir / "archive" / study


def _describe(path: Path) -> ReplacedImage:
    earlier = replaced_files(path)
    since = datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
    tags = name_tags(compare_instances(earlier[-1], path).tags)
    return ReplacedImage(path.parent.name, path.stem, len(earlier), since, tags)


def _former(path: Path) -> Path | None:
    """Return the latest file that `path` took the place of and that is for another patient."""
    try:
        patient = read_patient(path)
        for earlier in reversed(replaced_files(path)):
            other = read_patient(earlier)
            if patient_changed(other, patient) or patient_changed(patient, other):
                return earlier
    except NotDicom:
        pass
    return None


@contextmanager
def _copied(archive: EmbeddedArchive, path: Path) -> Iterator[IncomingFile]:
    """Copy a file to one that `archive` takes."""
    incoming = archive.create_file()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                incoming.write(chunk)
        yield incoming
    finally:
        incoming.discard()
