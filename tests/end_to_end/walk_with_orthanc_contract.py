"""Run one script in a real Orthanc and in the node, send both the same requests, and write the answers to a folder.

    python -m tests.end_to_end.walk_with_orthanc_contract WORK_FOLDER SCRIPT ORTHANC PYTHON_PLUGIN STORESCP

The folders `real` and `own` in WORK_FOLDER get answers.json, written by the script, and http.json with the responses to
the requests. openapi.json and routes.log beside them list the routes of Orthanc's REST API.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.contract_files import write_contract_files
from tests.support.plugin_hosts import LIMIT_S, HostedScript, run_in_node, run_in_orthanc
from tests.support.programs import clear_settings, free_port, private_network, storescp, wait_for

STABLE_AFTER_S = 60  # longer than the walk, so that no study becomes stable and no job starts
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


def main(work: Path, script: Path, orthanc_program: str, python_plugin: Path, storescp_program: str) -> None:
    """Run the walk in both hosts at the same time."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    write_contract_files(work / "files")
    write_routes(orthanc_program, work)
    peer = free_port()
    with ExitStack() as stack:
        stack.enter_context(storescp(storescp_program, work / "received", peer))
        hosts = {}
        for name in ("own", "real"):
            folder = work / name
            folder.mkdir()
            configuration = {
                "Trial": {"Files": str(work / "files"), "Answers": str(folder)},
                "UserMetadata": USER_METADATA,
            }
            hosted = HostedScript(script, configuration, STABLE_AFTER_S, peer)
            run = run_in_node(folder, hosted)
            if name == "real":
                run = run_in_orthanc(folder, hosted, orthanc_program, python_plugin)
            hosts[name] = stack.enter_context(run)
        for name, host in hosts.items():
            wait_for(f"the answers of {name}", (work / name / "answers.json").exists, LIMIT_S)
            responses = {f"{method} {uri}": host.ask(method, uri, body, X_Mark="m") for method, uri, body in REQUESTS}
            (work / name / "http.json").write_text(json.dumps(responses))


def write_routes(program: str, work: Path) -> None:
    """Let Orthanc write its routes: the described ones to openapi.json, the others to routes.log."""
    with (work / "routes.log").open("wb") as log:
        subprocess.run([program, f"--openapi={work / 'openapi.json'}"], check=True, stderr=log, timeout=60)


if __name__ == "__main__":
    clear_settings()
    os.environ["TZ"] = "XXX5"  # five hours behind UTC; Orthanc's times are in UTC
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5])
