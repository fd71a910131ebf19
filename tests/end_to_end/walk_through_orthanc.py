"""Three studies by storescu to an Orthanc with the plugin, while the node or Orthanc is down. Prints JSON.

Run as a program: walk_through_orthanc.py STUDIES_FOLDER WORK_FOLDER STORESCU ORTHANC. There are three studies, each in
a folder that is called like its UID. The node segments by stand-in (tests/support/stand_in_segmenter.py).

    first    all is well: its results come into the same Orthanc, and by routing to the second one
    second   the node is down for the sending
    third    Orthanc is killed before the study is stable
"""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.orthanc_site import HTTP, METADATA, SECOND_HTTP, Site, ended, send
from tests.support.programs import private_network, wait_for

LIMIT_S = 90
QUICK = {"StableAge": 1}
SLOW = {"StableAge": 3600}


def main(studies: Path, work: Path, storescu: str, orthanc: str) -> None:
    """Walk once and print what came of it."""
    private_network()
    site = Site(work, orthanc)
    well, node_down, orthanc_down = sorted(path.name for path in studies.iterdir())
    walked: dict[str, object] = {}
    with ExitStack() as stack:
        stack.enter_context(site.second())
        with ExitStack() as before:
            first = before.enter_context(site.first(**QUICK))
            with site.node():
                send(storescu, studies / well)
                wait_for("results of the first study", lambda: _delivered(site, well), LIMIT_S)
                walked["first"] = _seen(site, well)
            send(storescu, studies / node_down)
            wait_for("the second study's waiting", lambda: _waits(site), LIMIT_S)
            walked["away"] = site.ask("/glionode/status")
            stack.enter_context(site.node())
            wait_for("results of the second study", lambda: _delivered(site, node_down), LIMIT_S)
            walked["second"] = _seen(site, node_down)
            walked["ended_s"] = ended(first, 30)
        with site.first(**SLOW):  # so that nobody is too slow to kill it before the study is stable
            send(storescu, studies / orthanc_down)
            walked["before"] = site.state(orthanc_down)
        stack.enter_context(site.first(**QUICK))
        wait_for("results of the third study", lambda: _delivered(site, orthanc_down), LIMIT_S)
        walked["third"] = _seen(site, orthanc_down)
        wait_for("the results to be stable, too", lambda: _stable_twice(site, well), LIMIT_S)
        walked["jobs"] = site.ask("/glionode/status")["jobs"]
        path = f"/glionode/studies/{site.study(well)}"
        walked["again"] = [site.ask(path, "POST", body)["added"] for body in (b"", b'{"force": true}')]
        wait_for("the first study once more", lambda: True if len(_taken(site)) > 3 else None, LIMIT_S)
        walked["explorer"] = site.text("/plugins/explorer.js")
        walked["prometheus"] = site.text("/tools/metrics-prometheus")
        walked["names"] = site.ask("/names", port=SECOND_HTTP)
    sys.stdout.write(json.dumps(walked))


def _delivered(site: Site, uid: str) -> bool | None:
    """Whether the results are at both, and the node knows it."""
    if not (site.results(uid, HTTP) and site.results(uid, SECOND_HTTP)):
        return None
    found = site.ask(f"/glionode/studies/{site.study(uid)}")
    states = {state for each in found["outputs"] for state in each["deliveries"].values()}
    marked = site.ask(f"/studies/{site.study(uid)}/metadata/{METADATA}")
    return True if states == {"sent"} and marked else None


def _seen(site: Site, uid: str) -> dict[str, object]:
    """What of a study can be seen from outside."""
    study = site.study(uid)
    return {
        "at_first": site.results(uid, HTTP),
        "at_second": site.results(uid, SECOND_HTTP),
        "said": site.ask(f"/glionode/studies/{study}"),
        "mark": site.ask(f"/studies/{study}/metadata/{METADATA}"),
        "taken": _taken(site),
    }


def _taken(site: Site) -> list[str]:
    """How many images each job that was begun had."""
    return (site.controls / "log").read_text().split()[1::2]


def _waits(site: Site) -> bool | None:
    return True if site.ask("/glionode/status")["waiting"] else None


def _stable_twice(site: Site, uid: str) -> bool | None:
    """Whether Orthanc called a study stable with its images and with its results, and the plugin has named it."""
    changes = site.ask("/changes?limit=10000")["Changes"]
    stable = [each["ID"] for each in changes if each["ChangeType"] == "StableStudy"].count(site.study(uid))
    return True if stable >= 2 and not site.ask("/glionode/status")["waiting"] else None


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("GLIONODE_")]:
        del os.environ[variable]
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
