"""One script, and the same requests, in a real Orthanc and in the embedded node; what came of them goes into a folder.

Run as a program: walk_with_orthanc_contract.py WORK_FOLDER SCRIPT ORTHANC PYTHON_PLUGIN [STORESCP]. The folders `real`
and `own` in the work folder get answers.json of the script and http.json of the requests.
"""

import http.client
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from contract_files import write_contract_files
from peers import GLIONODE, free_port, listens, orthanc, private_network, running, storescp, wait_for

LIMIT_S = 120
QUIET_S = 60  # beyond the walk's end: nothing becomes stable, and no job begins, while it goes on
REQUESTS: tuple[tuple[str, str, bytes | None], ...] = (
    ("GET", "/trial/hello", None),
    ("GET", "/trial/hello/", None),
    ("GET", "/trial//hello", None),
    ("POST", "/trial/hello", b"x"),
    ("GET", "/trial/echo/a/b?x=1&y=&x=2", None),
    ("POST", "/trial/echo/a%20b", b"text"),
    ("PUT", "/trial/echo/", b"text"),
    ("DELETE", "/trial/echo/q", None),
    ("GET", "/trial/fails", None),
    ("GET", "/trial/status-code", None),
    ("GET", "/trial/redirect", None),
    ("GET", "/trial/only-post", None),
    ("POST", "/trial/only-post", b"hi"),
    ("GET", "/trial/unauthorized", None),
    ("GET", "/trial/raises", None),
    ("GET", "/trial/not-there", None),
    ("GET", "/trial/forbidden", None),
    ("GET", "/trial/raise", None),
    ("GET", "/trial/nonsense", None),
    ("GET", "/TRIAL/hello", None),
)
COMPARED_HEADERS = ("allow", "content-type", "location", "set-cookie", "www-authenticate", "x-trial")


def main(work: Path, script: Path, orthanc_program: str, python_plugin: str, storescp_program: str) -> None:
    """Walk once through both, at the same time."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    write_contract_files(work / "files")
    peer = free_port()
    with ExitStack() as stack:
        stack.enter_context(storescp(storescp_program, work / "received", peer))
        ports = {}
        for name, begin in (("own", _own), ("real", _real)):
            folder = work / name
            folder.mkdir()
            trial = {"Trial": {"Files": str(work / "files"), "Answers": str(folder)}}
            ports[name] = free_port()
            stack.enter_context(begin(folder, script, ports[name], peer, trial, (orthanc_program, python_plugin)))
        for name, port in ports.items():
            wait_for(f"the answers of {name}", lambda n=name: _there(work / n / "answers.json"), LIMIT_S)
            wait_for(f"the HTTP of {name}", lambda p=port: listens(p), LIMIT_S)
            asked = {f"{method} {uri}": _ask(port, method, uri, body) for method, uri, body in REQUESTS}
            (work / name / "http.json").write_text(json.dumps(asked))


@contextmanager
def _real(
    folder: Path, script: Path, http_port: int, peer: int, trial: dict[str, Any], programs: tuple[str, str]
) -> Iterator[None]:
    modalities = {"peer": ["PEER", "127.0.0.1", peer]}
    more = {"PythonScript": str(script), "StableAge": QUIET_S, "DicomModalities": modalities, **trial}
    with orthanc(programs[0], folder / "orthanc", free_port(), http_port, (programs[1],), **more):
        yield


@contextmanager
def _own(
    folder: Path, script: Path, http_port: int, peer: int, trial: dict[str, Any], _programs: tuple[str, str]
) -> Iterator[None]:
    (folder / "orthanc.json").write_text("// as Orthanc's own\n" + json.dumps(trial))
    (folder / "glionode.toml").write_text(
        f"""
[listener]
ae_title = "ORTHANC"
port = 0
[storage]
data_dir = {json.dumps(str(folder / "data"))}
minimum_free_mb = 10
[study]
stable_after_s = {QUIET_S}
[http]
enabled = true
port = {http_port}
[[destinations]]
name = "peer"
ae_title = "PEER"
host = "127.0.0.1"
port = {peer}
"""
    )
    options = ["--config", str(folder / "glionode.toml"), "--plugin-config", str(folder / "orthanc.json")]
    with running([*GLIONODE, "serve", *options, "--plugin", str(script)], folder / "node.log"):
        yield


def _there(path: Path) -> bool | None:
    return True if path.exists() else None


def _ask(port: int, method: str, uri: str, body: bytes | None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, uri, body, {"X-Mark": "m"})
        answer = connection.getresponse()
        text = answer.read().decode()
        headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() in COMPARED_HEADERS}
        return {"status": answer.status, "headers": headers, "body": _parsed(text)}
    finally:
        connection.close()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    os.environ.pop("GLIONODE_CONFIG", None)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
