"""Store a study with its results in Orthanc, open them in OHIF, and print what OHIF shows, as JSON.

    python -m tests.end_to_end.walk_with_viewers PLAN WORK_FOLDER STORESCU ORTHANC DICOMWEB_PLUGIN CHROMIUM OHIF_FOLDER

PLAN is a JSON file from test_viewers.py that names what to send and what to open. It has no expected values: the test
compares them.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.programs import free_port, orthanc, private_network
from tests.support.viewers.dicomweb import retrieve
from tests.support.viewers.ohif import Ohif, ohif
from tests.support.viewers.one_origin import DICOMWEB, one_origin

STORE_LIMIT_S = 120
WALK_LIMIT_S = 280
"""After this time the walk ends itself, and with it Orthanc and Chromium."""


def main(plan_path: str, work_folder: str, *programs: str) -> None:
    """Run the walk and print what was observed."""
    storescu, orthanc_program, dicomweb_plugin, chromium, viewer = programs
    signal.signal(signal.SIGALRM, _raise_timeout)
    signal.alarm(WALK_LIMIT_S)
    private_network()
    plan, work = json.loads(Path(plan_path).read_text()), Path(work_folder)
    dicom_port, http_port = free_port(), free_port()
    with (
        orthanc(orthanc_program, work / "orthanc", dicom_port, http_port, (Path(dicomweb_plugin),)),
        one_origin(Path(viewer), http_port) as origin,
    ):
        # -R: propose only what is needed; DCMTK's own list of storage classes has no SEG.
        send = [storescu, "-R", "--call", "ORTHANC", "--scan-directories", "--recurse", "127.0.0.1", str(dicom_port)]
        stored = subprocess.run([*send, *plan["folders"]], capture_output=True, timeout=STORE_LIMIT_S, check=False)
        fetched = _fetch(plan, f"http://127.0.0.1:{http_port}{DICOMWEB}", work / "fetched")
        shots = work / "shots"
        shots.mkdir()
        with ohif(chromium, shots) as viewer_page:
            viewer_page.open(origin, plan["study"], plan["series_count"])
            observed = _open_all(plan, viewer_page)
            errors = viewer_page.errors
    sys.stdout.write(json.dumps({"storescu": stored.returncode, "fetched": fetched, "errors": errors, **observed}))


def _raise_timeout(*_: object) -> None:
    raise TimeoutError(f"the walk took more than {WALK_LIMIT_S} s")


def _fetch(plan: dict[str, Any], root: str, folder: Path) -> str:
    """Retrieve all result objects over DICOMweb into a folder, and return its path."""
    folder.mkdir()
    for series, instance in plan["objects"]:
        (folder / f"{instance}.dcm").write_bytes(retrieve(root, plan["study"], series, instance))
    return str(folder)


def _open_all(plan: dict[str, Any], viewer: Ohif) -> dict[str, Any]:
    """Open everything that the plan names, one after the other; return what OHIF shows."""
    observed: dict[str, Any] = {"series": viewer.ask("allSeries"), "segs": {}}
    diameters, report, capture = plan["diameters"], plan["report"], plan["capture"]
    printed = viewer.open_measurements(diameters["series"], diameters["printed"])
    measured = viewer.ask("measurements", diameters["series"])
    observed["diameters"] = {"shot": viewer.shoot("sr-diameters"), "printed": printed, "measured": measured}
    printed = viewer.open_text(report["series"], report["printed"])
    observed["report"] = {"shot": viewer.shoot("sr-measurements"), "printed": printed}
    for name, seg in plan["segs"].items():
        voxels = viewer.ask("segments", seg["series"])
        viewer.open_seg(seg["series"], seg["source"], seg["sop"], seg["overlays"])
        observed["segs"][name] = {"shot": viewer.shoot(f"seg-{name}"), "in_page": viewer.ask("inPage", seg["points"])}
        observed["segs"][name] |= voxels
    viewer.open_images(capture["series"], capture["sop"])
    observed["capture"] = {"shot": viewer.shoot("capture"), **viewer.ask("pixels")}
    return observed


if __name__ == "__main__":
    main(*sys.argv[1:])
