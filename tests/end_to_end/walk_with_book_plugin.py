"""A plugin in the Orthanc Book's style, unchanged in a real Orthanc and in the node; images by storescu. Prints JSON.

Run as a program: walk_with_book_plugin.py WORK_FOLDER SCRIPT ORTHANC PYTHON_PLUGIN STORESCP STORESCU.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.contract_files import ROOT, write_contract_files
from tests.support.plugin_hosts import LIMIT_S, Plugin, PluginHost, listening, own, real
from tests.support.programs import free_port, private_network, storescp, wait_for

KEY = "a-key-of-the-tests-alone"


def main(work: Path, script: Path, orthanc_program: str, python_plugin: str, *dcmtk: str) -> None:
    """Walk once through both, at the same time."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    write_contract_files(work / "files")
    walked = {}
    with ExitStack() as stack:
        hosts = {}
        for name in ("own", "real"):
            folder = work / name
            folder.mkdir()
            peer = free_port()
            stack.enter_context(storescp(dcmtk[0], folder / "received", peer))
            plugin = Plugin(script, {"Book": {"Forward": "peer", "Key": KEY}}, 1, peer)
            begin = own(folder, plugin) if name == "own" else real(folder, plugin, orthanc_program, python_plugin)
            hosts[name] = stack.enter_context(begin)
        for host in hosts.values():
            listening(host)
            send = [dcmtk[1], "--aetitle", "SCANNER", "--call", "ORTHANC", "--scan-directories", "127.0.0.1"]
            command = [*send, str(host.dicom_port), str(work / "files")]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        for name, host in hosts.items():
            walked[name] = _walk(host, work / name / "received")
    sys.stdout.write(json.dumps(walked))


def _walk(host: PluginHost, received: Path) -> dict[str, Any]:
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
        "kept_out": [host.ask("GET", "/book/state")["status"], host.ask("GET", "/book/find", X_Book_Key="k")["status"]],
        "wrong_method": host.ask("DELETE", "/book/studies/x", X_Book_Key=KEY),
        "deleted": ask("POST", "/book/delete", f"{ROOT}.2".encode()),
        "afterwards": ask("GET", "/book/state"),
        "nothing_there": host.ask("POST", "/book/delete", f"{ROOT}.2".encode(), X_Book_Key=KEY)["status"],
    }


if __name__ == "__main__":
    os.environ.pop("GLIONODE_CONFIG", None)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
