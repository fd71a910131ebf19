"""Act out orthanc-config/compose.yaml with the roots that walk_with_dockerfile.py made; its option --compose.

Users, settings, secrets, volumes, read-only roots and health checks are the file's. What it does not show: the engine's
networks (all are on one loopback here, that nobody else has) and PostgreSQL's image (this machine's stands in).
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

from tests.end_to_end.walk_with_dockerfile import Stage, as_first, await_health, first_of, run, say, started
from tests.support.paths import ROOT

FOLDER = ROOT / "orthanc-config"
DONE_S = 400.0
Service = dict[str, Any]

ASK = """
import base64, json, sys, urllib.request
password = open(sys.argv[1]).read()
request = urllib.request.Request("http://127.0.0.1:8042/series?expand")
request.add_header("Authorization", "Basic " + base64.b64encode(f"glionode:{password}".encode()).decode())
for series in json.load(urllib.request.urlopen(request, timeout=20)):
    tags = series["MainDicomTags"]
    text = tags.get("SeriesDescription", "")
    print(tags["Modality"], tags.get("SeriesNumber"), len(series["Instances"]), text, sep="\\t")
"""


def composed() -> Service:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(re.sub(r"\$\{TRY_DEMONSTRATION:-false\}", "true", text)))


def confine(stage: Stage, service: Service, work: Path, secrets: Path) -> Stage:
    """The root as the service sees it: read-only, with its volumes and secrets, and /tmp in memory."""
    root = work / f"composed-{stage.root.name}"
    root.mkdir()
    subprocess.run(["mount", "--rbind", str(stage.root), str(root)], check=True)
    places = []
    for each in service.get("volumes", ()):
        if isinstance(each, dict):
            places.append((work / "volumes" / each["source"], each["target"], each.get("read_only", False)))
            continue
        source, target, *mode = each.split(":")
        folder = (FOLDER / source).resolve() if source.startswith(".") else work / "volumes" / source
        places.append((folder, target, mode == ["ro"]))
    for each in service["secrets"]:
        source, target = (each, f"/run/secrets/{each}") if isinstance(each, str) else (each["source"], each["target"])
        places.append((secrets / source, target, True))
    for source, target, read_only in places:
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
    """PostgreSQL of this machine, on the socket alone."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folders = {name: work / "volumes" / name for name in ("database", "socket")}
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    for folder in folders.values():
        folder.mkdir(parents=True)
        shutil.chown(folder, "postgres", "postgres")
    user = service["environment"]["POSTGRES_USER"]
    initdb = ["initdb", "-A", service["environment"]["POSTGRES_HOST_AUTH_METHOD"], "-U", user, "-D"]
    subprocess.run([*as_postgres, programs / initdb[0], *initdb[1:], folders["database"]], check=True, stdout=-3)
    words = ["-D", str(folders["database"]), "-k", str(folders["socket"]), *service["command"]]
    process = subprocess.Popen([*as_postgres, programs / "postgres", *words])
    create = ["createdb", "-h", str(folders["socket"]), "-U", user, service["environment"]["POSTGRES_DB"]]
    deadline = time.monotonic() + 60
    while subprocess.run(create, check=False, stderr=-3).returncode:
        if time.monotonic() > deadline:
            sys.exit("PostgreSQL does not start.")
        time.sleep(0.2)
    return process


def compose(node: Stage, orthanc: Stage, work: Path) -> None:
    """A study to Orthanc by DICOM; SEG and SR in it a while later."""
    services = composed()["services"]
    run(node, ["sh", "-c", "rm -rf /tmp/phantom && glionode phantom /tmp/phantom"])
    subprocess.run([FOLDER / "make-secrets", work / "secrets"], check=True)
    database = start_database(services["database"], work)
    network = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
    there = ("nsenter", f"--target={network.pid}", "--net")
    time.sleep(1)  # for `ip`
    running = {}
    for stage, name in ((orthanc, "orthanc"), (node, "node")):
        confined = confine(stage, services[name], work, work / "secrets")
        command = [*stage.commands["ENTRYPOINT"], *stage.commands["CMD"]]
        running[name] = started(confined, command, (*there, *as_first(confined)))
        await_health(confined, running[name])
    send = ["storescu", "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", "4242", str(node.root / "tmp/phantom/dicom")]
    subprocess.run([*there, *send], check=True)
    deadline = time.monotonic() + DONE_S
    while True:
        ask = [*there, sys.executable, "-c", ASK, str(work / "secrets/orthanc.password")]
        series = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
        if {"SEG", "SR"} <= {line.split("\t")[0] for line in series.splitlines()}:
            break
        if time.monotonic() > deadline:
            sys.exit(f"No results came to Orthanc:\n{series}")
        time.sleep(2)
    say(series)
    for name in ("node", "orthanc"):
        os.kill(first_of(running[name]), signal.SIGTERM)
        say(f"{name}: SIGTERM: exit status {running[name].wait(timeout=60)}")
    database.send_signal(signal.SIGINT)
    database.wait(timeout=60)
    network.kill()
