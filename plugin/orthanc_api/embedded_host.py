"""What of the node plugins written for Orthanc work on: archive, index of it, what they keep in the database.

Whatever changes is told to `tell`, which the host's thread turns into callbacks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from plugin.archive.incoming_file import NoRoom
from plugin.archive.store import EmbeddedArchive, InstanceKey, Stored, WrongUid
from plugin.database.audit_log import Peer
from plugin.jobs.job import OPEN
from plugin.orthanc_api.enums import ChangeType, InstanceOrigin, ResourceType
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Added, Came, OrthancIndex, Resource
from plugin.orthanc_api.levels import IDENTIFYING_TAG, Level
from plugin.orthanc_api.metrics import PluginMetrics
from plugin.orthanc_api.modalities import Modalities
from plugin.orthanc_api.resource_json import is_complete
from plugin.orthanc_api.store import PluginStore
from plugin.orthanc_api.tags import Json, NotDicom, read_data_set
from plugin.retention.purge import Purger
from plugin.settings.sections import Settings

_NEW = {
    Level.INSTANCE: ChangeType.NEW_INSTANCE,
    Level.SERIES: ChangeType.NEW_SERIES,
    Level.STUDY: ChangeType.NEW_STUDY,
    Level.PATIENT: ChangeType.NEW_PATIENT,
}
_STABLE = {
    Level.PATIENT: ChangeType.STABLE_PATIENT,
    Level.STUDY: ChangeType.STABLE_STUDY,
    Level.SERIES: ChangeType.STABLE_SERIES,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something to call plugins for."""

    change_type: int
    level: int = ResourceType.NONE
    resource: str = ""
    stored: Resource | None = None
    """Of an instance that has come: its on-stored callbacks come before."""


@dataclass(slots=True)
class EmbeddedHost:
    """The embedded node's side of Orthanc's API. Thread-safe."""

    settings: Settings
    archive: EmbeddedArchive
    index: OrthancIndex
    store: PluginStore
    modalities: Modalities
    configuration: dict[str, Json]
    """What GetConfiguration gives."""
    metrics: PluginMetrics
    tell: Callable[[Event], None]
    kept: Callable[[str, Peer], None] = lambda _study, _sender: None
    """Tells the node that a plugin stored an instance of a study."""
    configuration_path: Path | None = None
    started: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    """Where the node listens, "dicom" and "http"."""

    @property
    def user_metadata(self) -> dict[str, int]:
        """The numbers of what plugins keep under names of their own; checked as the configuration was read."""
        found: dict[str, int] = self.configuration.get("UserMetadata", {})
        return found

    def require_started(self) -> None:
        """Raises OrthancException while the script is being loaded, as Orthanc does."""
        if not self.started:
            raise failure(ErrorCode.DATABASE_NOT_INITIALIZED)

    def resource(self, level: Level, identifier: str) -> Resource:
        """Raises OrthancException where it is not there."""
        found = self.index.find(level, identifier)
        if found is None:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        return found

    def take_in(self, path: Path, came: Came) -> Added | None:
        """A file of the archive, told to plugins where it is new to them. Raises NotDicom, OSError, psycopg.Error."""
        added = self.index.add(path, came)
        if added is not None:
            self._note(added)
        return added

    def _note(self, added: Added) -> None:
        instance = added.instance
        news = [(_NEW[each.level], each.level.number, each.identifier) for each in added.new]
        series = instance.parent
        if series is not None and is_complete(series):
            news.append((ChangeType.COMPLETED_SERIES, series.level.number, series.identifier))
        above = [each for each in instance.above() if each is not instance]
        try:
            self.store.new_instance(news, instance.identifier, [each.identifier for each in above], instance.came)
        except BaseException:
            self.index.remove([instance])  # it is taken in again, by whoever tries again
            raise
        self.tell(Event(*news[0], stored=instance))
        for event in news[1:]:
            self.tell(Event(*event))
        for each in above:
            self.tell(Event(ChangeType.NEW_CHILD_INSTANCE, each.level.number, each.identifier))

    def put(self, content: bytes) -> tuple[Resource, bool]:
        """Keep an instance that a plugin gives; whether it is new. Raises OrthancException."""
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
        added = self.take_in(path, Came(InstanceOrigin.PLUGIN, sender))
        if stored is Stored.NEW:
            self.kept(key.study_instance_uid, sender)
        found = added.instance if added is not None else self.index.at(path)
        if found is None:  # another file has the same identifiers
            raise failure(ErrorCode.INTERNAL_ERROR)
        return found, added is not None

    def delete(self, resource: Resource) -> None:
        """Remove images of a resource. Raises OrthancException where a job may have one of them in hand."""
        with self.index.lock:
            instances = list(resource.below(Level.INSTANCE))
        studies = {instance.at_hand.path.parent.parent.name for instance in instances}
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
                paths = [instance.at_hand.path for instance in instances]
                self._remove_files(study, frozenset(path for path in paths if path.parent.parent.name == study))
        self.forget(instances)

    def _remove_files(self, study: str, paths: frozenset[Path]) -> None:
        whole = frozenset(self.archive.files(study)) == paths
        if not (whole and Purger(self.archive.data_dir, self.store.pool).remove_images(study, paths)):
            for path in paths:
                path.unlink(missing_ok=True)

    def forget(self, instances: list[Resource]) -> None:
        """Images are gone from the disk: plugins are told."""
        removed = self.index.remove(instances)
        self.store.forget([each.identifier for each in removed])
        for each in removed:
            self.tell(Event(ChangeType.DELETED, each.level.number, each.identifier))

    def settle_quiet(self) -> None:
        """Tell plugins of what has been quiet for `study.stable_after_s` since it was last told of."""
        quiet = self.index.settle_quiet(time.time() - self.settings.study.stable_after_s)
        while quiet:
            resource = quiet[0]
            change = (_STABLE[resource.level], resource.level.number, resource.identifier)
            try:
                self.store.now_stable(change)
            except BaseException:  # the rest, too, is looked at again
                for each in quiet:
                    self.index.unsettle(each)
                raise
            self.tell(Event(*change))
            quiet = quiet[1:]
