"""Send three studies to an Orthanc that runs the Orthanc script, while the node or Orthanc is down. Prints JSON.

    python -m tests.end_to_end.walk_through_orthanc STUDIES_FOLDER WORK_FOLDER STORESCU ORTHANC PYTHON_PLUGIN

STUDIES_FOLDER has three studies, each in a folder named by its UID. The node uses the stand-in segmenter. It checks
that every result arrives in the same Orthanc and, by routing, in a second one:

    first    everything runs
    second   the node is down while the study arrives
    third    Orthanc is killed before the study is stable
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.orthanc_site import HTTP, METADATA, SECOND_HTTP, Site, send, terminate
from tests.support.programs import clear_settings, private_network, wait_for

LIMIT_S = 90
QUICK = {"StableAge": 1}
SLOW = {"StableAge": 3600}


def main(studies: Path, work: Path, storescu: str, orthanc: str, python_plugin: Path) -> None:
    """Run the walk and print what was observed."""
    private_network()
    site = Site(work, orthanc, python_plugin)
    undisturbed, node_down, orthanc_down = sorted(path.name for path in studies.iterdir())
    observed: dict[str, object] = {}
    with ExitStack() as stack:
        stack.enter_context(site.second())
        with ExitStack() as before:
            first = before.enter_context(site.first(**QUICK))
            with site.node():
                send(storescu, studies / undisturbed)
                wait_for("results of the first study", lambda: _delivered(site, undisturbed), LIMIT_S)
                observed["first"] = _observe(site, undisturbed)
            send(storescu, studies / node_down)
            wait_for("the second study's waiting", lambda: site.ask("/glionode/status")["waiting"], LIMIT_S)
            observed["node_down"] = site.ask("/glionode/status")
            stack.enter_context(site.node())
            wait_for("results of the second study", lambda: _delivered(site, node_down), LIMIT_S)
            observed["second"] = _observe(site, node_down)
            observed["terminated_s"] = terminate(first, 30)
        with site.first(**SLOW):  # so that Orthanc is killed in time, before the study is stable
            send(storescu, studies / orthanc_down)
            observed["before"] = site.state(orthanc_down)
        stack.enter_context(site.first(**QUICK))
        wait_for("results of the third study", lambda: _delivered(site, orthanc_down), LIMIT_S)
        observed["third"] = _observe(site, orthanc_down)
        wait_for("the results' being stable, too", lambda: _stable_twice(site, undisturbed), LIMIT_S)
        observed["jobs"] = site.ask("/glionode/status")["jobs"]
        path = f"/glionode/studies/{site.study(undisturbed)}"
        observed["again"] = [site.ask(path, "POST", body)["added"] for body in (b"", b'{"force": true}')]
        wait_for("the first study once more", lambda: len(_images_by_job(site)) > 3, LIMIT_S)
        observed["explorer"] = site.text("/plugins/explorer.js")
        observed["prometheus"] = site.text("/tools/metrics-prometheus")
        observed["names"] = site.ask("/names", port=SECOND_HTTP)
    sys.stdout.write(json.dumps(observed))


def _delivered(site: Site, uid: str) -> bool:
    """Return whether both Orthancs have the results and the node has recorded that."""
    if not (site.results(uid, HTTP) and site.results(uid, SECOND_HTTP)):
        return False
    found = site.ask(f"/glionode/studies/{site.study(uid)}")
    states = {state for each in found["outputs"] for state in each["deliveries"].values()}
    marked = site.ask(f"/studies/{site.study(uid)}/metadata/{METADATA}")
    return states == {"sent"} and bool(marked)


def _observe(site: Site, uid: str) -> dict[str, object]:
    """Return everything about a study that is visible from outside."""
    study = site.study(uid)
    return {
        "at_first": site.results(uid, HTTP),
        "at_second": site.results(uid, SECOND_HTTP),
        "status": site.ask(f"/glionode/studies/{study}"),
        "mark": site.ask(f"/studies/{study}/metadata/{METADATA}"),
        "labels": site.ask(f"/studies/{study}/labels"),
        "images_by_job": _images_by_job(site),
    }


def _images_by_job(site: Site) -> list[str]:
    """Return the number of images of each started job."""
    return (site.controls / "log").read_text().split()[1::2]


def _stable_twice(site: Site, uid: str) -> bool:
    """Return whether the study was stable with its images and with its results, and was submitted to the node."""
    changes = site.ask("/changes?limit=10000")["Changes"]
    stable = [each["ID"] for each in changes if each["ChangeType"] == "StableStudy"].count(site.study(uid))
    return stable >= 2 and not site.ask("/glionode/status")["waiting"]


if __name__ == "__main__":
    clear_settings()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
