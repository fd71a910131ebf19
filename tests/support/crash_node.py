"""A node whose processes a test can kill and that restarts them, and a PACS that remembers what it received."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from plugin.database.embedded_postgres import EmbeddedPostgres, embedded_url, start_postgres
from tests.support.node import write_model
from tests.support.programs import SERVICE, child_pids, free_port, listens
from tests.support.stand_in_segmenter import OUTPUT_CLASSES


class RestartingProcess:
    """A process that `check` restarts after its death."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    def check(self) -> None:
        """Start the process unless it runs; after its death, wait a moment first."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._process = None
            self._not_before = time.monotonic() + 0.3
        if time.monotonic() >= self._not_before:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def pids(self) -> list[int]:
        """Return the ids of the process and of its children; empty while it is dead."""
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process.pid, *child_pids(self._process.pid)]

    def stop(self) -> None:
        """Stop the process with SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)


class RestartingNode:
    """All processes of a node, and functions that kill one of them."""

    def __init__(self, work: Path, separate: bool, pacs_port: int, seconds_a_study: float) -> None:
        """Use the empty folder `work`. With `separate`, each service runs in a process of its own."""
        self.port = free_port()
        self.database: EmbeddedPostgres | None = start_postgres(work / "database") if separate else None
        self.url = self.database.url if self.database else embedded_url(work / "data")
        settings, controls, log = work / "glionode.toml", work / "controls", work / "node.log"
        controls.mkdir()
        (controls / "slow").write_text(str(seconds_a_study))
        write_model(work / "models" / "stand-in")
        settings.write_text(
            f"""
[listener]
port = {self.port}
[storage]
data_dir = {json.dumps(str(work / "data"))}
minimum_free_mb = 10
[study]
stable_after_s = 0.5
[model]
name = "stand-in"
installed_dir = {json.dumps(str(work / "models"))}
[database]
url = {json.dumps(self.database.url if self.database else "")}
[delivery]
retry_first_s = 0.2
retry_longest_s = 1.0
timeout_s = 10
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""
        )
        names = ("listen", "work", "work", "deliver") if separate else ("serve",)
        self.processes = [
            RestartingProcess(name, [*SERVICE, name, str(settings), str(controls)], log) for name in names
        ]

    def check(self) -> None:
        """Restart every process that has ended."""
        if self.database is not None:
            self.database.ensure_running()
        for process in self.processes:
            process.check()

    def wait_until_listening(self) -> None:
        """Wait until the listener accepts connections."""
        while not listens(self.port):
            self.check()
            time.sleep(0.1)

    def victims(self) -> dict[str, Callable[[], None]]:
        """Return a function for each process that can be killed now, by name."""
        found: dict[str, Callable[[], None]] = {}
        for number, process in enumerate(self.processes):
            for pid in process.pids():
                name = process.name if pid == process.pids()[0] else _kind_of_child(pid)
                if name:
                    found[f"{name} {number}"] = lambda pid=pid: os.kill(pid, signal.SIGKILL)  # type: ignore[misc]
        if self.database is not None:
            found["database"] = self.database.process.kill
        return found

    def stop(self) -> None:
        """Stop all processes with SIGTERM."""
        for process in self.processes:
            process.stop()
        if self.database is not None:
            self.database.stop()


@dataclass
class RecordingPacs:
    """A C-STORE SCP that keeps each object and the time of its arrival."""

    objects: dict[str, bytes] = field(default_factory=dict)
    """Data sets by SOP Instance UID."""
    times: dict[str, float] = field(default_factory=dict)
    repeats: int = 0
    """How many objects arrived under a UID that was there already."""
    altered: int = 0
    """How many of the repeats had other bytes."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Receive during the block; yields the port."""
        ae = AE("PACS")
        for sop_class in OUTPUT_CLASSES:
            ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        uid, content = str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()
        with self.lock:
            if uid in self.objects:
                self.repeats += 1
                self.altered += self.objects[uid] != content
            else:
                self.objects[uid], self.times[uid] = content, time.monotonic()
        return 0x0000


def _kind_of_child(pid: int) -> str:
    """Return what a child of a node's process is; empty for multiprocessing's resource tracker."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    if b"postgres" in command:
        return "database"
    return "worker process" if b"spawn_main" in command else ""
