"""Both hosts of a plugin, a real Orthanc and the embedded node, and asking them over HTTP."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.programs import GLIONODE, free_port, listens, orthanc, running, wait_for

LIMIT_S = 120
PYTHON_PLUGIN = "/usr/share/orthanc/plugins/libOrthancPython.so"
"""Where Debian has it; `program` finds none of it, as it is none."""
COMPARED_HEADERS = ("allow", "content-type", "location", "set-cookie", "www-authenticate", "x-trial")


@dataclass(frozen=True)
class Plugin:
    """A script, and what it is to find."""

    script: Path
    configuration: dict[str, Any]
    quiet_s: float
    """After so long a study is stable."""
    peer: int
    """The port of the modality "peer"."""


@dataclass(frozen=True)
class PluginHost:
    """A host that runs."""

    dicom_port: int
    http_port: int

    def ask(self, method: str, uri: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
        """Status, body and some of the headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request(method, uri, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            text = answer.read().decode()
            given = {name.lower(): value for name, value in answer.getheaders() if name.lower() in COMPARED_HEADERS}
            return {"status": answer.status, "headers": given, "body": _parsed(text)}
        finally:
            connection.close()


@contextmanager
def real(folder: Path, plugin: Plugin, program: str, python_plugin: str) -> Iterator[PluginHost]:
    """Orthanc; its log is orthanc.log in the folder."""
    found = PluginHost(free_port(), free_port())
    more = {
        "PythonScript": str(plugin.script),
        "StableAge": int(plugin.quiet_s),
        "DicomModalities": {"peer": ["PEER", "127.0.0.1", plugin.peer]},
        "DicomAlwaysAllowStore": True,
        **plugin.configuration,
    }
    with orthanc(program, folder / "orthanc", found.dicom_port, found.http_port, (python_plugin,), **more):
        yield found


@contextmanager
def own(folder: Path, plugin: Plugin) -> Iterator[PluginHost]:
    """The node, which may be starting still; its log is node.log in the folder."""
    found = PluginHost(free_port(), free_port())
    (folder / "orthanc.json").write_text("// as Orthanc's own\n" + json.dumps(plugin.configuration))
    (folder / "glionode.toml").write_text(
        f"""
[listener]
ae_title = "ORTHANC"
port = {found.dicom_port}
[storage]
data_dir = {json.dumps(str(folder / "data"))}
minimum_free_mb = 10
[study]
stable_after_s = {plugin.quiet_s}
[http]
enabled = true
port = {found.http_port}
[[destinations]]
name = "peer"
ae_title = "PEER"
host = "127.0.0.1"
port = {plugin.peer}
"""
    )
    options = ["--config", str(folder / "glionode.toml"), "--plugin-config", str(folder / "orthanc.json")]
    with running([*GLIONODE, "serve", *options, "--plugin", str(plugin.script)], folder / "node.log"):
        yield found


def listening(host: PluginHost) -> None:
    """Wait until it takes DICOM and HTTP."""
    for port in (host.http_port, host.dicom_port):
        wait_for("a host's start", lambda port=port: listens(port), LIMIT_S)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
