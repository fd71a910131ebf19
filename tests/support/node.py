"""Helpers for tests of the node: small instances, a node in a thread, a PACS, and waiting for a condition."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, LiteralString

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.database.pool import Database
from plugin.delivery.sender import Outgoing
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.jobs.job import Finished, Job
from plugin.jobs.outbox import OutboxEntry
from plugin.jobs.queue import AlsoWrite, JobQueue
from plugin.listener.listener import Address
from plugin.node.run import serve
from plugin.node.status import NodeStatus, read_status
from plugin.orthanc_api.script import PluginFiles
from plugin.settings.sections import Settings
from tests.support.stand_in_segmenter import OUTPUT_CLASSES, make_stand_in

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def new_study_uid() -> str:
    """Return a random study instance UID that is short enough to append to."""
    return generate_uid(prefix="1.2.826.0.1.3680043.8.498.", entropy_srcs=None)[:50].rstrip(".")


MARKER = "MARKERxPHI"
"""Occurs in every text element of the test instances; no log may contain it."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 40.0) -> None:
    """Wait until `condition` is true; fail with `what` if it is not in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        pause.wait(0.02)


def make_instance(study: str, series: str | None = None, sop_class: str = MR_IMAGE_STORAGE, number: int = 1) -> Dataset:
    """Return a small instance with the marker in its text elements."""
    instance = Dataset()
    instance.SOPClassUID = UID(sop_class)
    instance.SOPInstanceUID = generate_uid()
    instance.StudyInstanceUID = study
    instance.SeriesInstanceUID = series or f"{study}.1"
    instance.PatientName = f"{MARKER}^NAME"
    instance.PatientID = f"{MARKER}-ID"
    instance.PatientComments = f"{MARKER} comments"
    instance.StudyDescription = f"{MARKER} study"
    instance.SeriesDescription = f"{MARKER} series"
    instance.InstitutionName = f"{MARKER} hospital"
    instance.Modality = "MR"
    instance.InstanceNumber = number
    referenced = Dataset()
    referenced.StudyInstanceUID = generate_uid()
    referenced.SeriesInstanceUID = generate_uid()
    instance.ReferencedStudySequence = [referenced]
    instance.Rows, instance.Columns = 8, 8
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 16, 15
    instance.SamplesPerPixel, instance.PixelRepresentation = 1, 0
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.PixelData = bytes(range(128))
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def write_instance(instance: Dataset, folder: Path) -> Path:
    """Write an instance to a DICOM file in `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{instance.SOPInstanceUID}.dcm"
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


def write_outgoing(folder: Path, count: int) -> list[Outgoing]:
    """Write objects of one study and return them as due deliveries."""
    study, made = new_study_uid(), []
    for number in range(count):
        instance = make_instance(study, number=number)
        path = write_instance(instance, folder)
        entry = OutboxEntry(str(instance.SOPInstanceUID), str(path), 0, datetime.now(UTC))
        made.append(Outgoing(entry, str(instance.SOPClassUID), str(instance.file_meta.TransferSyntaxUID)))
    return made


def send(port: int, *instances: Dataset, host: str = "127.0.0.1") -> list[int]:
    """Send instances over one association and return the C-STORE response statuses."""
    ae = ApplicationEntity("SCANNER")
    for sop_class in {str(instance.SOPClassUID) for instance in instances}:
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    peer = ae.associate(host, port, ae_title="GLIONODE")
    assert peer.is_established
    statuses = [peer.send_c_store(instance).Status for instance in instances]
    peer.release()
    return statuses


@dataclass
class NodeInThread:
    """A whole node in a thread of this process, whose worker uses the stand-in segmenter."""

    settings: Settings
    controls: Path
    """The folder of files that control the stand-in segmenter; see stand_in_segmenter.py."""
    address: Address | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    thread: threading.Thread | None = None
    plugin: PluginFiles | None = None

    def start(self, *controls: str) -> "NodeInThread":
        """Create control files for the stand-in segmenter, start the node and wait until it listens."""
        for name in controls:
            (self.controls / name).touch()
        ready = threading.Event()

        def on_ready(address: Address) -> None:
            self.address = address
            ready.set()

        def run() -> None:
            try:
                serve(self.settings, partial(make_stand_in, self.controls), self.stop, on_ready, self.plugin)
            except BaseException as exc:  # noqa: BLE001 - raised again in the test's own thread
                self.failure = exc
                ready.set()

        self.stop = threading.Event()
        self.thread = threading.Thread(target=run, name="node")
        self.thread.start()
        wait_until(ready.is_set, "the node listens")
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return self

    def end(self) -> None:
        """Stop the node and wait until it has stopped."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join(60)
            assert not self.thread.is_alive(), "the node does not end"
        if self.failure is not None:
            raise self.failure

    @property
    def port(self) -> int:
        """The port of its DICOM listener."""
        assert self.address is not None
        return self.address.port

    def status(self) -> NodeStatus:
        """Return the node's status."""
        return read_status(self.settings)

    def run_count(self) -> int:
        """Return how many runs of the stand-in segmenter have begun."""
        log = self.controls / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def jobs_are(self, **counts: int) -> bool:
        """Return whether the node has exactly these jobs, counted by state."""
        return self.status().jobs == counts


def stand_in_node(folder: Path, **sections: object) -> NodeInThread:
    """Return a node with its files in `folder`, the stand-in segmenter and short waiting times.

    The given sections of the settings replace the defaults.
    """
    values: dict[str, object] = {
        "listener": {"port": 0},
        "storage": {"data_dir": str(folder / "data"), "minimum_free_mb": 0},
        "study": {"stable_after_s": 0.3},
        "model": {"name": "stand-in", "installed_dir": str(folder / "models")},
        "delivery": {"retry_first_s": 0.2, "retry_longest_s": 0.5, "timeout_s": 10},
        "shutdown": {"drain_s": 10},
    }
    write_model(folder / "models" / "stand-in")
    (folder / "controls").mkdir(exist_ok=True)
    return NodeInThread(Settings(**{**values, **sections}), folder / "controls")


def write_model(folder: Path, intended_use: str = "research") -> None:
    """Write the model.toml of a model package; the stand-in segmenter needs no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(
        f"""format = 1
name = "{folder.name}"
version = "1"
intended_use = "{intended_use}"
[input]
channels = ["ADC", "FLAIR", "T1CE"]
spacing_mm = 1.0
normalisation = "robust-head-1"
[network]
init_filters = 8
blocks_down = [1, 1]
blocks_up = [1]
upsample_mode = "nontrainable"
[weights]
sha256 = "{"0" * 64}"
[[output]]
label = "enhancing_tumour"
threshold = 0.5
"""
    )


def glionode(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; return its exit status and its output on both streams."""
    result = CliRunner().invoke(app, [*map(str, arguments)], prog_name="glionode")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def sentence(text: str) -> str:
    """Assert that an output is a single line, and return it."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def refusal(*arguments: str | Path) -> tuple[int, str]:
    """Run a command that refuses its work; return its exit status and the one sentence on standard error."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, sentence(result.stderr)


def query(database: Database, statement: LiteralString, *values: object) -> list[Any]:
    """Execute an SQL statement in a transaction of its own; return its rows, if it has any."""
    with database.pool.connection() as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def insert_job(database: Database, key: str, study: str, state: str = "segmented") -> None:
    """Insert the row of a job whose images do not matter."""
    columns = "key, study_instance_uid, instances_sha256, model_sha256, state"
    query(database, f"INSERT INTO glionode_jobs ({columns}) VALUES (%s, %s, '', '', %s)", key, study, state)


def finish_job(
    queue: JobQueue, job: Job, outcome: Finished, folder: Path | None = None, also: AlsoWrite = lambda _: None
) -> None:
    """Add a job, and start and finish it as a worker does."""
    queue.add(job)
    taken = queue.start(job.key)
    assert taken is not None
    queue.finish(taken, outcome, str(folder) if folder is not None else None, also)


def run(config: Path, *arguments: str) -> tuple[int, str]:
    """Run a command with a settings file; return its exit status and its output."""
    return glionode(*arguments, "--config", config)


def config_of(node: NodeInThread, folder: Path) -> Path:
    """Write a settings file with which the command line finds the node; return its path."""
    config = folder / "glionode.toml"
    storage, model = node.settings.storage, node.settings.model
    config.write_text(
        f"[storage]\ndata_dir = {json.dumps(storage.data_dir)}\n"
        f"[model]\nname = {json.dumps(model.name)}\ninstalled_dir = {json.dumps(model.installed_dir)}\n"
    )
    return config


class Pacs:
    """A C-STORE SCP that records SOP instance UIDs. `status` is its response; it can be stopped and started."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.status = 0x0000
        self._ae = AE("PACS")
        for sop_class in OUTPUT_CLASSES:
            self._ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        self._ae.add_supported_context(Verification)
        self._server: Any = None
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: Any) -> int:
        if self.status == 0x0000:
            self.received.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

    def destination(self, name: str = "pacs", **more: object) -> dict[str, object]:
        return {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": self.port, **more}
