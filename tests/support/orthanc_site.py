"""A site for the walks: an Orthanc with the Orthanc script, a node beside it, and a second Orthanc for routed results.

Everything uses its default port, because a walk has a network of its own.
"""

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.node import write_model
from tests.support.paths import ROOT
from tests.support.programs import GLIONODE, SERVICE, listens, running, wait_for

CONFIG = ROOT / "orthanc-config"
DICOM, HTTP, SECOND_DICOM, SECOND_HTTP, NODE_HTTP = 4242, 8042, 4243, 8043, 8114
PASSWORD, TOKEN = "of-the-walk-alone", "a-token-of-this-walk-alone"
METADATA = "GlioNode"

NAMES = """
import json, orthanc
def names(output, uri, **request):
    found = {each: dir(getattr(orthanc, each)) for each in dir(orthanc)}
    output.AnswerBuffer(json.dumps(found), "application/json")
orthanc.RegisterRestCallback("/names", names)
"""
"""The second Orthanc's script: its route returns the names of the real module."""


def orthanc_settings(with_script: bool = True, **changes: object) -> dict[str, Any]:
    """Return the repository's orthanc.json with some values changed, and without the Orthanc script if not wanted."""
    # Orthanc's JSON may have comments; no text in this file has two slashes after a blank.
    text = "\n".join(line.partition(" //")[0] for line in (CONFIG / "orthanc.json").read_text().splitlines())
    settings: dict[str, Any] = json.loads(text)
    settings |= {"RegisteredUsers": {"glionode": PASSWORD}, "PythonScript": str(CONFIG / "load_plugin.py"), **changes}
    if not with_script:
        for key in ("Plugins", "PythonScript", "GlioNode"):
            settings.pop(key)
    return settings


class Site:
    """The folder, the processes and the REST APIs of the site."""

    def __init__(self, work: Path, orthanc_program: str, python_plugin: Path) -> None:
        self.work = work
        self.controls = work / "controls"
        """The folder of files that control the stand-in segmenter; see stand_in_segmenter.py."""
        self._program = orthanc_program
        self._plugins = [str(python_plugin)]
        self.controls.mkdir()
        (work / "glionode.token").write_text(TOKEN)
        (work / "password").write_text(PASSWORD)
        write_model(work / "models" / "stand-in")

    @contextmanager
    def first(self, with_script: bool = True, **changes: object) -> Iterator[subprocess.Popen[bytes]]:
        """Run the Orthanc beside the node; its log is appended to."""
        modalities = {"second": {"AET": "SECOND", "Host": "127.0.0.1", "Port": SECOND_DICOM}}
        config = orthanc_settings(with_script, DicomModalities=modalities, Plugins=self._plugins, **changes)
        if with_script:
            config["GlioNode"] |= {"TokenFile": str(self.work / "glionode.token")}
        with self._orthanc("first", config, HTTP) as process:
            yield process

    @contextmanager
    def second(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the Orthanc that gets routed results; it sends commitment reports to the first one."""
        script = self.work / "names.py"
        script.write_text(NAMES)
        modalities = {"first": {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": DICOM}}
        ports = {"DicomPort": SECOND_DICOM, "HttpPort": SECOND_HTTP, "DicomAet": "SECOND"}
        config = orthanc_settings(DicomModalities=modalities, Plugins=self._plugins, PythonScript=str(script), **ports)
        del config["GlioNode"]
        with self._orthanc("second", config, SECOND_HTTP) as process:
            yield process

    @contextmanager
    def node(self, stand_in: bool = True, nice: int = 0) -> Iterator[None]:
        """Run the node with the stand-in segmenter or with the bundled model."""
        settings = self.work / "glionode.toml"
        settings.write_text(self._node_settings(stand_in))
        command = [*SERVICE, "serve", str(settings), str(self.controls)]
        if not stand_in:
            command = [*GLIONODE, "serve", "--config", str(settings)]
        if nice:
            command = ["nice", "-n", str(nice), *command]
        note = self.work / "data" / "serve.json"
        note.unlink(missing_ok=True)
        with running(command, self.work / "node.log"):
            wait_for("the node's start", note.exists, 60)
            yield

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, port: int = HTTP) -> Any:
        """Return the parsed JSON response of an Orthanc; None without one or for an HTTP error."""
        try:
            return json.loads(self.text(path, method, body, port))
        except (OSError, ValueError):
            return None

    def text(self, path: str, method: str = "GET", body: bytes | None = None, port: int = HTTP) -> str:
        """Return the response of an Orthanc. Raises OSError."""
        user = base64.b64encode(f"glionode:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {user}"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.read(), "utf-8")

    def study(self, uid: str, port: int = HTTP) -> str | None:
        """Return Orthanc's identifier of a study; None if it does not have the study."""
        found = self.ask("/tools/lookup", "POST", uid.encode(), port) or []
        return next((str(each["ID"]) for each in found if each["Type"] == "Study"), None)

    def results(self, uid: str, port: int = HTTP) -> list[str]:
        """Return the SOP Instance UIDs of the study's SEG and SR."""
        study = self.study(uid, port)
        found = self.ask(f"/studies/{study}/instances", port=port) if study else None
        uids = [str(each["MainDicomTags"]["SOPInstanceUID"]) for each in found or []]
        return sorted(each for each in uids if each.startswith(f"{uid}.99."))

    def state(self, uid: str) -> str | None:
        """Return the state of a study that the Orthanc script reports."""
        found = self.ask(f"/glionode/studies/{self.study(uid)}")
        return found["state"] if found else None

    @contextmanager
    def _orthanc(self, name: str, config: dict[str, Any], http_port: int) -> Iterator[subprocess.Popen[bytes]]:
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(config))
        with (self.work / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([self._program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            wait_for(f"the start of the {name} Orthanc", lambda: listens(http_port), 60)
            yield process
        finally:
            process.kill()
            process.wait()

    def _node_settings(self, stand_in: bool) -> str:
        model = f'[model]\nname = "stand-in"\ninstalled_dir = {json.dumps(str(self.work / "models"))}'
        return f"""
[listener]
port = 0
[storage]
data_dir = {json.dumps(str(self.work / "data"))}
minimum_free_mb = 10
[http]
enabled = true
token_file = {json.dumps(str(self.work / "glionode.token"))}
[orthanc]
url = "http://127.0.0.1:{HTTP}"
user = "glionode"
password_file = {json.dumps(str(self.work / "password"))}
{model if stand_in else ""}
[delivery]
retry_first_s = 0.2
retry_longest_s = 1.0
timeout_s = 20
[[destinations]]
name = "orthanc"
via = "orthanc"
accepts_demonstration = true
[[destinations]]
name = "second"
via = "orthanc"
modality = "second"
storage_commitment = true
accepts_demonstration = true
"""


def send(storescu: str, *folders: Path) -> None:
    """Send folders to the first Orthanc with DCMTK's storescu."""
    command = [storescu, "--call", "ORTHANC", "--scan-directories", "127.0.0.1", str(DICOM), *map(str, folders)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def terminate(process: subprocess.Popen[bytes], limit_s: float) -> float:
    """Send SIGTERM to a process, wait, and return the seconds until it ended. Raises TimeoutExpired."""
    started = time.monotonic()
    process.terminate()
    process.wait(limit_s)
    return time.monotonic() - started
