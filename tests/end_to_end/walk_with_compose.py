"""Run the services of orthanc-config/compose.yaml in the roots of walk_with_dockerfile.py.

    tests/end_to_end/run_dockerfile.sh --compose

Users, settings, secrets, volumes, read-only roots and health checks are those of the file. It does not test the
engine's networks (all services share a loopback of their own here) nor PostgreSQL's image (this machine's PostgreSQL is
used instead).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.walk_with_dockerfile import (
    Stage,
    await_health,
    find_first_pid,
    in_own_namespaces,
    run,
    say,
    start,
)
from tests.support.paths import ROOT

FOLDER = ROOT / "orthanc-config"
RESULTS_LIMIT_S = 400.0
Service = dict[str, Any]

LIST_SERIES = """
import base64, json, sys, urllib.request
password = open(sys.argv[1]).read()
request = urllib.request.Request("http://127.0.0.1:8042/series?expand")
request.add_header("Authorization", "Basic " + base64.b64encode(f"glionode:{password}".encode()).decode())
for series in json.load(urllib.request.urlopen(request, timeout=20)):
    tags = series["MainDicomTags"]
    text = tags.get("SeriesDescription", "")
    print(tags["Modality"], tags.get("SeriesNumber"), len(series["Instances"]), text, sep="\\t")
"""


def read_compose_file() -> Service:
    """Return the content of compose.yaml, with destinations that accept a demonstration."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(re.sub(r"\$\{TRY_DEMONSTRATION:-false\}", "true", text)))


def confine(stage: Stage, service: Service, work: Path, secrets: Path) -> Stage:
    """Mount a stage's root as the service sees it: read-only, with its volumes and secrets, and /tmp in memory."""
    root = work / f"composed-{stage.root.name}"
    root.mkdir()
    subprocess.run(["mount", "--rbind", str(stage.root), str(root)], check=True)
    mounts = []
    for each in service.get("volumes", ()):
        if isinstance(each, dict):
            mounts.append((work / "volumes" / each["source"], each["target"], each.get("read_only", False)))
            continue
        source, target, *mode = each.split(":")
        folder = (FOLDER / source).resolve() if source.startswith(".") else work / "volumes" / source
        mounts.append((folder, target, mode == ["ro"]))
    for each in service["secrets"]:
        source, target = (each, f"/run/secrets/{each}") if isinstance(each, str) else (each["source"], each["target"])
        mounts.append((secrets / source, target, True))
    for source, target, read_only in mounts:
        place = root / target.lstrip("/")
        if not source.exists():  # a new volume takes its owner from the image
            source.mkdir(parents=True)
            if place.exists():
                shutil.copystat(place, source)
                os.chown(source, place.stat().st_uid, place.stat().st_gid)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if source.is_dir() else place.touch()
        subprocess.run(["mount", "--bind", str(source), str(place)], check=True)
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(root)], check=True)
    environment = stage.environment | service.get("environment", {})
    return replace(stage, root=root, environment=environment, user=service["user"])


def start_database(service: Service, work: Path) -> subprocess.Popen[bytes]:
    """Start this machine's PostgreSQL, which listens on a socket only."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folders = {name: work / "volumes" / name for name in ("database", "socket")}
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    for folder in folders.values():
        folder.mkdir(parents=True)
        shutil.chown(folder, "postgres", "postgres")
    user = service["environment"]["POSTGRES_USER"]
    initdb = ["initdb", "-A", service["environment"]["POSTGRES_HOST_AUTH_METHOD"], "-U", user, "-D"]
    subprocess.run([*as_postgres, programs / initdb[0], *initdb[1:], folders["database"]], check=True, stdout=-3)
    options = ["-D", str(folders["database"]), "-k", str(folders["socket"]), *service["command"]]
    process = subprocess.Popen([*as_postgres, programs / "postgres", *options])
    create = ["createdb", "-h", str(folders["socket"]), "-U", user, service["environment"]["POSTGRES_DB"]]
    deadline = time.monotonic() + 60
    while subprocess.run(create, check=False, stderr=-3).returncode:
        if time.monotonic() > deadline:
            sys.exit("PostgreSQL did not start within 60 s.")
        time.sleep(0.2)
    return process


def compose(node: Stage, orthanc: Stage, work: Path) -> None:
    """Start all services, send a study to Orthanc, and wait for its SEG and SR there."""
    services = read_compose_file()["services"]
    run(node, ["sh", "-c", "rm -rf /tmp/phantom && glionode phantom /tmp/phantom"])
    subprocess.run([FOLDER / "make-secrets", work / "secrets"], check=True)
    database = start_database(services["database"], work)
    network = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
    inside = ("nsenter", f"--target={network.pid}", "--net")
    time.sleep(1)  # for `ip`
    running = {}
    for stage, name in ((orthanc, "orthanc"), (node, "node")):
        confined = confine(stage, services[name], work, work / "secrets")
        command = [*stage.commands["ENTRYPOINT"], *stage.commands["CMD"]]
        running[name] = start(confined, command, (*inside, *in_own_namespaces(confined)))
        await_health(confined, running[name])
    send = ["storescu", "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", "4242", str(node.root / "tmp/phantom/dicom")]
    subprocess.run([*inside, *send], check=True)
    deadline = time.monotonic() + RESULTS_LIMIT_S
    while True:
        list_series = [*inside, sys.executable, "-c", LIST_SERIES, str(work / "secrets/orthanc.password")]
        series = subprocess.run(list_series, check=True, capture_output=True, text=True).stdout
        if {"SEG", "SR"} <= {line.split("\t")[0] for line in series.splitlines()}:
            break
        if time.monotonic() > deadline:
            sys.exit(f"No results arrived in Orthanc within {RESULTS_LIMIT_S:.0f} s:\n{series}")
        time.sleep(2)
    say(series)
    for name in ("node", "orthanc"):
        os.kill(find_first_pid(running[name]), signal.SIGTERM)
        say(f"{name}: SIGTERM: exit status {running[name].wait(timeout=60)}")
    database.send_signal(signal.SIGINT)
    database.wait(timeout=60)
    network.kill()
