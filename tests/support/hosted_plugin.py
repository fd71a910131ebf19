"""Run a hosted plugin with an archive, without the rest of a node."""

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
from plugin.database.access_audit import AccessAudit
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


class HostedPluginFixture:
    """A running plugin. `script` is its module, `orthanc` the module that it imports."""

    def __init__(self, plugin: PluginHost, archive: EmbeddedArchive) -> None:
        self.plugin = plugin
        self.archive = archive
        self.script: Any = sys.modules["glionode_plugin_script"]
        self.orthanc: ModuleType | Any = sys.modules["orthanc"]

    def start(self) -> None:
        """Let the plugin run, as the node does when it listens."""
        self.plugin.start(Address("GLIONODE", "127.0.0.1", 11112), "")
        wait_until(lambda: self.events_of(ChangeType.ORTHANC_STARTED), "the plugin gets ORTHANC_STARTED")

    def receive(self, instance: Dataset, sender: Peer = SCANNER) -> OrthancIds:
        """Store an instance as the listener does."""
        ids = store_in_archive(self.archive, instance)
        self.plugin.touch(str(instance.StudyInstanceUID), sender)
        return ids

    def events_of(self, change: int, resource: str | None = None) -> list[tuple[int, int, str]]:
        """Return the changes of a kind that the plugin got, all or of one resource."""
        return [each for each in self.script.EVENTS if each[0] == change and resource in (None, each[2])]


def as_dicom_file(instance: Dataset) -> bytes:
    """Return an instance as a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return buffer.getvalue()


def orthanc_ids(instance: Dataset) -> OrthancIds:
    """Return Orthanc's identifiers of an instance."""
    uids = (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)
    return identifiers(str(instance.PatientID), *map(str, uids))


def store_in_archive(archive: EmbeddedArchive, instance: Dataset) -> OrthancIds:
    """Store an instance in an archive, and return its identifiers."""
    uids = (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)
    incoming = archive.create_file()
    incoming.write(as_dicom_file(instance))
    archive.store(InstanceKey(*map(str, uids)), incoming)
    return orthanc_ids(instance)


def open_archive(folder: Path) -> EmbeddedArchive:
    """Open the archive of a folder, new or not."""
    archive = EmbeddedArchive(folder / "data" / "archive", 0)
    archive.open()
    return archive


@contextmanager
def running(
    folder: Path, database: Database, script: str = SCRIPT, start: bool = True, **sections: Any
) -> Iterator[HostedPluginFixture]:
    """Load a plugin for the block, and start it unless `start` is False."""
    values = {"storage": {"data_dir": str(folder / "data"), "minimum_free_mb": 0}, "study": {"stable_after_s": 3600}}
    archive = open_archive(folder)
    path = folder / "script.py"
    path.write_text(script)
    settings = Settings(**{**values, **sections})
    model, queue = cast(Any, SimpleNamespace(sha256="")), JobQueue(database)
    deadline = ShutdownDeadline(settings.shutdown.drain_s)
    shared = NodeContext(settings, model, database, queue, deadline, Metrics(), AccessAudit(database.pool))
    with running_plugin(PluginFiles(path), shared, archive) as plugin:
        fixture = HostedPluginFixture(plugin, archive)
        if start:
            fixture.start()
        yield fixture
