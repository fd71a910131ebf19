"""A node in a process of its own, which a test can kill."""

import subprocess
from pathlib import Path
from typing import Any

import tomli_w

from plugin.node.lock import RunningNode, running_node
from tests.support.node import NodeInThread, wait_until
from tests.support.paths import ROOT
from tests.support.programs import SERVICE

_SECTIONS = ("listener", "storage", "study", "model", "delivery", "shutdown")


class NodeInProcess:
    """The node of a `NodeInThread` that is not started, with its log in a file; more sections can be given."""

    def __init__(self, node: NodeInThread, folder: Path, **sections: dict[str, Any]) -> None:
        values = node.settings.model_dump(mode="json")
        self.config = folder / "glionode.toml"
        self.config.write_text(tomli_w.dumps({name: values[name] for name in _SECTIONS} | sections))
        self.log = folder / "node.log"
        plugin = [str(node.plugin.script)] if node.plugin is not None else []
        command = [*SERVICE, "serve", str(self.config), str(node.controls), *plugin]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.data_dir = node.settings.data_dir
        wait_until(lambda: running_node(self.data_dir) or self.process.poll() is not None, "the process listens")
        running = running_node(self.data_dir)
        assert running is not None, self.log.read_text()
        self.node: RunningNode = running

    @property
    def port(self) -> int:
        """The port of its DICOM listener."""
        return self.node.port

    def descendants(self) -> dict[int, str]:
        """Return the descendants of this process, with the names of their programs."""
        found: dict[int, str] = {}
        parents = {self.process.pid}
        while parents:
            below = {pid: name for pid, (name, parent) in processes().items() if parent in parents}
            found |= below
            parents = set(below)
        return found


def processes() -> dict[int, tuple[str, int]]:
    """Return name and parent of each running process, without zombies."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = entry.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            found[int(entry.parent.name)] = (name, int(parent))
    return found
