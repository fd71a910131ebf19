"""One script, and the same requests, in a real Orthanc and in the embedded node; what came of them goes into a folder.

Run as a program: walk_with_orthanc_contract.py WORK_FOLDER SCRIPT ORTHANC PYTHON_PLUGIN STORESCP. The folders `real`
and `own` in the work folder get answers.json of the script and http.json of the requests; openapi.json and routes.log
beside them have the routes of Orthanc's REST API.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.contract_files import write_contract_files
from tests.support.plugin_hosts import LIMIT_S, Plugin, own, real
from tests.support.programs import free_port, private_network, storescp, wait_for

QUIET_S = 60  # beyond the walk's end: nothing becomes stable, and no job begins, while it goes on
USER_METADATA = {"TrialMark": 1026, "OtherMark": 1027}
REQUESTS: tuple[tuple[str, str, bytes | None], ...] = (
    ("GET", "/trial/hello", None),
    ("GET", "/trial/hello/", None),
    ("GET", "/trial//hello", None),
    ("POST", "/trial/hello", b"x"),
    ("GET", "/trial/echo/a/b?x=1&y=&x=2", None),
    ("GET", "/trial/echo/a?x=a%20b+c%2Bd&y=%C3%BC", None),
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


def main(work: Path, script: Path, orthanc_program: str, python_plugin: str, storescp_program: str) -> None:
    """Walk once through both, at the same time."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    write_contract_files(work / "files")
    print_routes(orthanc_program, work)
    peer = free_port()
    with ExitStack() as stack:
        stack.enter_context(storescp(storescp_program, work / "received", peer))
        hosts = {}
        for name in ("own", "real"):
            folder = work / name
            folder.mkdir()
            trial = {"Trial": {"Files": str(work / "files"), "Answers": str(folder)}, "UserMetadata": USER_METADATA}
            plugin = Plugin(script, trial, QUIET_S, peer)
            begin = own(folder, plugin) if name == "own" else real(folder, plugin, orthanc_program, python_plugin)
            hosts[name] = stack.enter_context(begin)
        for name, host in hosts.items():
            wait_for(f"the answers of {name}", lambda name=name: _there(work / name / "answers.json"), LIMIT_S)
            asked = {f"{method} {uri}": host.ask(method, uri, body, X_Mark="m") for method, uri, body in REQUESTS}
            (work / name / "http.json").write_text(json.dumps(asked))


def print_routes(program: str, work: Path) -> None:
    """Orthanc's own table of routes: openapi.json has those that it describes, and routes.log names the others."""
    with (work / "routes.log").open("wb") as log:
        subprocess.run([program, f"--openapi={work / 'openapi.json'}"], check=True, stderr=log, timeout=60)


def _there(path: Path) -> bool | None:
    return True if path.exists() else None


if __name__ == "__main__":
    os.environ.pop("GLIONODE_CONFIG", None)
    os.environ["TZ"] = "XXX5"  # five hours behind UTC, in which Orthanc tells times
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
