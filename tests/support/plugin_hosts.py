"""Run a Python script written for Orthanc in both hosts, a real Orthanc and the node, and request its routes."""

import http.client
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.programs import GLIONODE, free_port, listens, orthanc, running, wait_for

LIMIT_S = 120
COMPARED_HEADERS = ("allow", "content-type", "location", "set-cookie", "www-authenticate", "x-trial")


@dataclass(frozen=True)
class HostedScript:
    """A script and the settings of its host."""

    path: Path
    configuration: dict[str, Any]
    stable_after_s: float
    """The time without new images after which a study is stable."""
    peer_port: int
    """The port of the modality "peer"."""


@dataclass(frozen=True)
class RunningHost:
    """The ports of a running host."""

    dicom_port: int
    http_port: int
    token: str = ""
    """What the node's HTTP routes require; Orthanc requires none."""

    def ask(self, method: str, uri: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
        """Send a request; return the status, the compared headers and the body of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, uri, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            text = response.read().decode()
            compared = {
                name.lower(): value for name, value in response.getheaders() if name.lower() in COMPARED_HEADERS
            }
            return {"status": response.status, "headers": compared, "body": _parse(text)}
        finally:
            connection.close()


@contextmanager
def run_in_orthanc(folder: Path, script: HostedScript, program: str, python_plugin: Path) -> Iterator[RunningHost]:
    """Run the script in Orthanc, which logs to orthanc.log in the folder."""
    host = RunningHost(free_port(), free_port())
    settings = {
        "PythonScript": str(script.path),
        "StableAge": int(script.stable_after_s),
        "DicomModalities": {"peer": ["PEER", "127.0.0.1", script.peer_port]},
        "DicomAlwaysAllowStore": True,
        **script.configuration,
    }
    with orthanc(program, folder / "orthanc", host.dicom_port, host.http_port, (python_plugin,), **settings):
        yield host


@contextmanager
def run_in_node(folder: Path, script: HostedScript) -> Iterator[RunningHost]:
    """Start the node with the script, without waiting for it; it logs to node.log in the folder."""
    host = RunningHost(free_port(), free_port(), secrets.token_hex(16))
    (folder / "token").write_text(host.token)
    (folder / "orthanc.json").write_text("// as Orthanc's own\n" + json.dumps(script.configuration))
    (folder / "glionode.toml").write_text(
        f"""
[listener]
ae_title = "ORTHANC"
port = {host.dicom_port}
[storage]
data_dir = {json.dumps(str(folder / "data"))}
minimum_free_mb = 10
[study]
stable_after_s = {script.stable_after_s}
[http]
enabled = true
port = {host.http_port}
token_file = {json.dumps(str(folder / "token"))}
[[destinations]]
name = "peer"
ae_title = "PEER"
host = "127.0.0.1"
port = {script.peer_port}
"""
    )
    options = ["--config", str(folder / "glionode.toml"), "--plugin-config", str(folder / "orthanc.json")]
    with running([*GLIONODE, "serve", *options, "--plugin", str(script.path)], folder / "node.log"):
        yield host


def wait_until_listening(host: RunningHost) -> None:
    """Wait until the host accepts DICOM and HTTP connections."""
    for port in (host.http_port, host.dicom_port):
        wait_for("a host's start", lambda port=port: listens(port), LIMIT_S)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
