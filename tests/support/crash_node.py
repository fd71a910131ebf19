"""A node whose processes can be killed: each a process of its own, started again when it is dead."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from plugin.database.embedded_postgres import EmbeddedPostgres, embedded_url, start_postgres
from tests.support.node import write_model
from tests.support.programs import SERVICE, free_port


class Process:
    """A process that is started again whenever it is dead."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    def check(self) -> None:
        """Start it unless it runs or has died only now."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._process = None
            self._not_before = time.monotonic() + 0.3
        if time.monotonic() >= self._not_before:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def pids(self) -> list[int]:
        """It and the worker process that it has; empty while it is dead."""
        if self._process is None or self._process.poll() is not None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return [self._process.pid, *map(int, children.read_text().split())]
        except OSError:
            return [self._process.pid]

    def stop(self) -> None:
        """End it in its own way."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)


class Node:
    """All processes of a node, and the ways to kill one."""

    def __init__(self, work: Path, parts: bool, pacs_port: int, seconds_a_study: float) -> None:
        """In the empty folder `work`; `parts` is whether receiving, work and delivery are apart."""
        self.port = free_port()
        self.database: EmbeddedPostgres | None = start_postgres(work / "database") if parts else None
        self.url = self.database.url if self.database else embedded_url(work / "data")
        settings, orders, log = work / "glionode.toml", work / "orders", work / "node.log"
        orders.mkdir()
        (orders / "slow").write_text(str(seconds_a_study))
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
        names = ("listen", "work", "work", "deliver") if parts else ("serve",)
        self.processes = [Process(name, [*SERVICE, name, str(settings), str(orders)], log) for name in names]

    def check(self) -> None:
        """Start what is dead."""
        if self.database is not None:
            self.database.ensure_running()
        for process in self.processes:
            process.check()

    def victims(self) -> dict[str, Callable[[], None]]:
        """What can be killed now."""
        found: dict[str, Callable[[], None]] = {}
        for number, process in enumerate(self.processes):
            for pid in process.pids():
                name = process.name if pid == process.pids()[0] else _what(pid)
                if name:
                    found[f"{name} {number}"] = lambda pid=pid: os.kill(pid, signal.SIGKILL)  # type: ignore[misc]
        if self.database is not None:
            found["database"] = self.database.process.kill
        return found

    def stop(self) -> None:
        """End all in their own way."""
        for process in self.processes:
            process.stop()
        if self.database is not None:
            self.database.stop()


def _what(pid: int) -> str:
    """What a child of a node's process is; empty for Python's own helper."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    if b"postgres" in command:
        return "database"
    return "worker process" if b"spawn_main" in command else ""
