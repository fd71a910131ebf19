"""The parts of the node that a hosted plugin works on: the archive, its index, and the plugin's data in the database.

Every change is passed to `emit`, and a thread of the plugin host turns it into callbacks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from plugin.archive.incoming_file import NoRoom
from plugin.archive.replaced_files import replaced_files
from plugin.archive.store import EmbeddedArchive, InstanceKey, Stored, WrongUid
from plugin.database import instance_rows
from plugin.database.audit_log import Peer
from plugin.jobs.job import OPEN
from plugin.orthanc_api.enums import ChangeType, InstanceOrigin, ResourceType
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import AddedInstance, OrthancIndex, Reception, Resource
from plugin.orthanc_api.levels import IDENTIFYING_TAG, Level
from plugin.orthanc_api.metrics import PluginMetrics
from plugin.orthanc_api.modalities import Modalities
from plugin.orthanc_api.resource_json import is_complete
from plugin.orthanc_api.store import PluginStore
from plugin.orthanc_api.tags import Json, NotDicom, read_data_set
from plugin.retention.purge import Purger
from plugin.settings.sections import Settings

_NEW: dict[Level, int] = {level: getattr(ChangeType, f"NEW_{level.name}") for level in Level}
_STABLE: dict[Level, int] = {
    level: getattr(ChangeType, f"STABLE_{level.name}") for level in Level if level is not Level.INSTANCE
}


@dataclass(frozen=True, slots=True)
class Event:
    """A change that the plugin is called for."""

    change_type: int
    level: int = ResourceType.NONE
    resource: str = ""
    stored: Resource | None = None
    """The instance that arrived, for which the on-stored callback is called first."""


@dataclass(slots=True)
class EmbeddedHost:
    """The node's side of Orthanc's API. Thread-safe."""

    settings: Settings
    archive: EmbeddedArchive
    index: OrthancIndex
    store: PluginStore
    modalities: Modalities
    configuration: dict[str, Json]
    """What GetConfiguration returns."""
    metrics: PluginMetrics
    emit: Callable[[Event], None]
    on_stored: Callable[[str, Peer], None] = lambda _study, _sender: None
    """Called with the study and the sender of an instance that the plugin stored."""
    configuration_path: Path | None = None
    started: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    """The ports on which the node listens, by "dicom" and "http"."""

    @property
    def user_metadata(self) -> dict[str, int]:
        """The numbers of metadata by the names that the configuration gives them."""
        found: dict[str, int] = self.configuration.get("UserMetadata", {})
        return found

    def require_started(self) -> None:
        """Raise OrthancException while the script is being loaded, as Orthanc does."""
        if not self.started:
            raise failure(ErrorCode.DATABASE_NOT_INITIALIZED)

    def resource(self, level: Level, identifier: str) -> Resource:
        """Return a resource. Raises OrthancException where there is none."""
        found = self.index.find(level, identifier)
        if found is None:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        return found

    def index_file(self, path: Path, reception: Reception) -> AddedInstance | None:
        """Index a file and emit its events if it is new. Raises NotDicom, OSError, psycopg.Error."""
        added = self.index.add(path, reception)
        if added is not None:
            self._record(added)
        return added

    def _record(self, added: AddedInstance) -> None:
        instance = added.instance
        news = [(_NEW[each.level], each.level.number, each.identifier) for each in added.new]
        series = instance.parent
        if series is not None and is_complete(series):
            news.append((ChangeType.COMPLETED_SERIES, series.level.number, series.identifier))
        above = [each for each in instance.above() if each is not instance]
        try:
            self.store.record_instance(
                news, instance.identifier, [each.identifier for each in above], instance.reception
            )
        except BaseException:
            self.index.remove([instance])  # the next attempt indexes it again
            raise
        self.emit(Event(*news[0], stored=instance))
        for event in news[1:]:
            self.emit(Event(*event))
        for each in above:
            self.emit(Event(ChangeType.NEW_CHILD_INSTANCE, each.level.number, each.identifier))

    def store_instance(self, content: bytes) -> tuple[Resource, bool]:
        """Store an instance that the plugin passes; return it and whether it is new. Raises OrthancException."""
        try:
            data_set = read_data_set(content)
            uids = [
                str(data_set[IDENTIFYING_TAG[level]].value) for level in (Level.STUDY, Level.SERIES, Level.INSTANCE)
            ]
            key = InstanceKey(*uids)
        except (NotDicom, KeyError, WrongUid) as exc:
            raise failure(ErrorCode.BAD_FILE_FORMAT) from exc
        sender = Peer("", "plugin")
        try:
            incoming = self.archive.create_file()
            try:
                incoming.write(content)
                stored = self.archive.store(key, incoming)
            finally:
                incoming.discard()
        except NoRoom as exc:
            raise failure(ErrorCode.FULL_STORAGE) from exc
        path = self.archive.path(key)
        added = self.index_file(path, Reception(InstanceOrigin.PLUGIN, sender))
        if stored is Stored.NEW:
            self.on_stored(key.study_instance_uid, sender)
        found = added.instance if added is not None else self.index.at(path)
        if found is None:  # another file has the same identifiers
            raise failure(ErrorCode.INTERNAL_ERROR)
        return found, added is not None

    def delete(self, resource: Resource) -> None:
        """Remove the images of a resource. Raises OrthancException where an open job may need one of them."""
        with self.index.lock:
            instances = list(resource.below(Level.INSTANCE))
        studies = {instance.stored_file.path.parent.parent.name for instance in instances}
        with self.store.pool.connection() as connection:
            for study in sorted(studies):
                # As JobQueue and Purger do: no job of it begins before the transaction ends.
                connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (study,))
                rows = connection.execute(
                    "SELECT state FROM glionode_jobs WHERE study_instance_uid = %s FOR UPDATE", (study,)
                ).fetchall()
                if any(state in {each.value for each in OPEN} for (state,) in rows):
                    raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
            for study in sorted(studies):
                paths = [instance.stored_file.path for instance in instances]
                self._remove_files(study, frozenset(path for path in paths if path.parent.parent.name == study))
        self.remove_missing(instances)

    def _remove_files(self, study: str, paths: frozenset[Path]) -> None:
        whole = frozenset(self.archive.files(study)) == paths
        paths |= frozenset(replaced for path in paths for replaced in replaced_files(path))
        if not (whole and Purger(self.archive.data_dir, self.store.pool).remove_images(study, paths)):
            for path in paths:
                path.unlink(missing_ok=True)
            with self.store.pool.connection() as connection:
                keys = [InstanceKey(study, path.parent.name, path.stem) for path in paths if path.suffix == ".dcm"]
                instance_rows.delete(connection, keys)

    def remove_missing(self, instances: list[Resource]) -> None:
        """Remove instances whose files are gone from the index, and emit their deletion."""
        removed = self.index.remove(instances)
        self.store.delete([each.identifier for each in removed])
        for each in removed:
            self.emit(Event(ChangeType.DELETED, each.level.number, each.identifier))

    def emit_stable(self) -> None:
        """Emit a stable event for each resource that got nothing for `study.stable_after_s` seconds."""
        quiet = self.index.mark_quiet_stable(time.time(), self.settings.study.stable_after_s)
        while quiet:
            resource = quiet[0]
            change = (_STABLE[resource.level], resource.level.number, resource.identifier)
            try:
                self.store.record_stable(change)
            except BaseException:  # all of them are tried again
                for each in quiet:
                    self.index.mark_changed(each)
                raise
            self.emit(Event(*change))
            quiet = quiet[1:]
