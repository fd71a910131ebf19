"""A plugin written for Orthanc beside an archive, without the rest of a node: what it is told and answered."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from pydicom import Dataset, dcmwrite

from plugin.archive.store import EmbeddedArchive, InstanceKey
from plugin.context import NodeContext, ShutdownDeadline
from plugin.database.audit_log import Peer
from plugin.database.pool import Database
from plugin.http.metrics import Metrics
from plugin.jobs.queue import JobQueue
from plugin.listener.listener import Address
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.levels import OrthancIds, identifiers
from plugin.orthanc_api.plugin_host import PluginHost, running_plugin
from plugin.orthanc_api.script import PluginFiles
from plugin.settings.sections import Settings
from tests.support.node import wait_until

SCANNER = Peer("MR1", "192.0.2.7")
SCRIPT = """
import orthanc

EVENTS, STORED = [], []


def on_change(change, level, resource):
    EVENTS.append((change, level, resource))


def on_stored(dicom, instance):
    STORED.append((instance, dicom.GetInstanceOrigin(), dicom.GetInstanceRemoteAet(), dicom.GetInstanceSize()))


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
"""


class PluginTrial:
    """A plugin that runs. `script` is its module, `orthanc` the one that it imports."""

    def __init__(self, plugin: PluginHost, archive: EmbeddedArchive) -> None:
        self.plugin = plugin
        self.archive = archive
        self.script: Any = sys.modules["glionode_plugin_script"]
        self.orthanc: ModuleType | Any = sys.modules["orthanc"]

    def begin(self) -> None:
        """The node listens."""
        self.plugin.begin(Address("GLIONODE", "127.0.0.1", 11112), "")
        wait_until(lambda: self.told(ChangeType.ORTHANC_STARTED), "the plugin is told of the start")

    def receive(self, instance: Dataset, sender: Peer = SCANNER) -> OrthancIds:
        """As the listener does."""
        ids = keep(self.archive, instance)
        self.plugin.touch(str(instance.StudyInstanceUID), sender)
        return ids

    def told(self, change: int, resource: str | None = None) -> list[tuple[int, int, str]]:
        """What it was told of."""
        return [each for each in self.script.EVENTS if each[0] == change and resource in (None, each[2])]


def encoded(instance: Dataset) -> bytes:
    """As a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return buffer.getvalue()


def ids_of(instance: Dataset) -> OrthancIds:
    """Orthanc's identifiers."""
    uids = (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)
    return identifiers(str(instance.PatientID), *map(str, uids))


def keep(archive: EmbeddedArchive, instance: Dataset) -> OrthancIds:
    """Put an instance into an archive."""
    uids = (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)
    incoming = archive.create_file()
    incoming.write(encoded(instance))
    archive.store(InstanceKey(*map(str, uids)), incoming)
    return ids_of(instance)


def archive_in(folder: Path) -> EmbeddedArchive:
    """A new one, or what is there."""
    archive = EmbeddedArchive(folder / "data" / "archive", 0)
    archive.open()
    return archive


@contextmanager
def running(folder: Path, database: Database, script: str = SCRIPT, **sections: Any) -> Iterator[PluginTrial]:
    """A plugin from its loading to its end; it begins when it is told so."""
    values = {"storage": {"data_dir": str(folder / "data"), "minimum_free_mb": 0}, "study": {"stable_after_s": 3600}}
    archive = archive_in(folder)
    path = folder / "script.py"
    path.write_text(script)
    settings = Settings(**{**values, **sections})
    model, queue = cast(Any, SimpleNamespace(weights_sha256="")), JobQueue(database)
    shared = NodeContext(settings, model, database, queue, ShutdownDeadline(settings.shutdown.drain_s), Metrics())
    with running_plugin(PluginFiles(path), shared, archive) as plugin:
        yield PluginTrial(plugin, archive)
