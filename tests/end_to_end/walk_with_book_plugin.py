"""Run a script in the Orthanc Book's style in a real Orthanc and in the node, and send images to both. Prints JSON.

    python -m tests.end_to_end.walk_with_book_plugin WORK_FOLDER SCRIPT ORTHANC PYTHON_PLUGIN STORESCP STORESCU

Both hosts get the same images from storescu, route them on to storescp and serve the script's routes; the test compares
what they answer.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.contract_files import ROOT, write_contract_files
from tests.support.plugin_hosts import (
    LIMIT_S,
    HostedScript,
    RunningHost,
    run_in_node,
    run_in_orthanc,
    wait_until_listening,
)
from tests.support.programs import clear_settings, free_port, private_network, storescp, wait_for

KEY = "a-key-of-the-tests-alone"


def main(work: Path, script: Path, orthanc_program: str, python_plugin: Path, *dcmtk: str) -> None:
    """Run the walk in both hosts at the same time, and print what was observed."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    write_contract_files(work / "files")
    observed = {}
    with ExitStack() as stack:
        hosts = {}
        for name in ("own", "real"):
            folder = work / name
            folder.mkdir()
            peer = free_port()
            stack.enter_context(storescp(dcmtk[0], folder / "received", peer))
            hosted = HostedScript(script, {"Book": {"Forward": "peer", "Key": KEY}}, 1, peer)
            run = run_in_node(folder, hosted)
            if name == "real":
                run = run_in_orthanc(folder, hosted, orthanc_program, python_plugin)
            hosts[name] = stack.enter_context(run)
        for host in hosts.values():
            wait_until_listening(host)
            send = [dcmtk[1], "--aetitle", "SCANNER", "--call", "ORTHANC", "--scan-directories", "127.0.0.1"]
            command = [*send, str(host.dicom_port), str(work / "files")]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        for name, host in hosts.items():
            observed[name] = _observe(host, work / name / "received")
    sys.stdout.write(json.dumps(observed))


def _observe(host: RunningHost, received: Path) -> dict[str, Any]:
    """Wait until all studies are complete, then request every route of the script."""

    def ask(method: str, path: str, body: bytes | None = None) -> Any:
        return host.ask(method, path, body, X_Book_Key=KEY)["body"]

    def complete() -> Any:
        state = ask("GET", "/book/state")
        return state if len(state["complete"]) == 3 and all(state["complete"].values()) else None

    state = wait_for("all three studies to be stable and sent on", complete, LIMIT_S)
    return {
        "state": state,
        "received": sorted(path.name for path in received.iterdir()),
        "summaries": {study: ask("GET", f"/book/studies/{study}") for study in state["complete"]},
        "found": {text: ask("GET", f"/book/find?description={text}") for text in ("", "*flair*", "T1%20post", "x")},
        "filtered": [host.ask("GET", "/book/state")["status"], host.ask("GET", "/book/find", X_Book_Key="k")["status"]],
        "wrong_method": host.ask("DELETE", "/book/studies/x", X_Book_Key=KEY),
        "deleted": ask("POST", "/book/delete", f"{ROOT}.2".encode()),
        "afterwards": ask("GET", "/book/state"),
        "nothing_there": host.ask("POST", "/book/delete", f"{ROOT}.2".encode(), X_Book_Key=KEY)["status"],
    }


if __name__ == "__main__":
    clear_settings()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
