"""Send a study with DCMTK's storescu to a node that delivers to DCMTK's storescp and to Orthanc. Prints JSON.

    python -m tests.end_to_end.walk_with_peers STUDY_FOLDER WORK_FOLDER EXPECTED STORESCU STORESCP ORTHANC

EXPECTED is the number of result objects. The last three are paths, because pynetdicom also installs a storescu and a
storescp.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.programs import (
    clear_settings,
    free_port,
    node,
    orthanc,
    orthanc_get,
    orthanc_instances,
    private_network,
    storescp,
    wait_for,
)

RESULT_LIMIT_S = 240


def main(study: Path, work: Path, expected: int, storescu: str, storescp_program: str, orthanc_program: str) -> None:
    """Run the walk and print where the results are."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    dcmtk_port, orthanc_port, http_port = free_port(), free_port(), free_port()
    received, data_dir = work / "received", work / "data"
    settings = work / "glionode.toml"
    settings.write_text(
        f"""
[listener]
port = 0
[storage]
data_dir = {json.dumps(str(data_dir))}
minimum_free_mb = 10
[study]
stable_after_s = 1
[[destinations]]
name = "dcmtk"
ae_title = "DCMTK"
host = "127.0.0.1"
port = {dcmtk_port}
accepts_demonstration = true
[[destinations]]
name = "orthanc"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc_port}
accepts_demonstration = true
"""
    )
    with (
        storescp(storescp_program, received, dcmtk_port),
        orthanc(orthanc_program, work / "orthanc", orthanc_port, http_port),
        node(settings, data_dir, work / "node.log") as port,
    ):
        send = [storescu, "--call", "GLIONODE", "--scan-directories", "--recurse", "127.0.0.1", str(port)]
        subprocess.run([*send, str(study)], check=True, capture_output=True, timeout=120)
        wait_for("results at storescp", lambda: len(list(received.iterdir())) >= expected, RESULT_LIMIT_S)
        wait_for("results at Orthanc", lambda: len(orthanc_instances(http_port)) >= expected, RESULT_LIMIT_S)
        fetched = work / "fetched"
        fetched.mkdir()
        for instance in orthanc_instances(http_port):
            (fetched / f"{instance}.dcm").write_bytes(orthanc_get(http_port, f"/instances/{instance}/file"))
    sys.stdout.write(json.dumps({"received": str(received), "fetched": str(fetched), "log": str(work / "node.log")}))


if __name__ == "__main__":
    clear_settings()
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
