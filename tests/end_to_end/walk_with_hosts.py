"""Studies through a node on four hosts without a shared disk, of which one dies in its job. Prints JSON.

Run as a program: walk_with_hosts.py STUDIES_FOLDER WORK_FOLDER STORESCU STORESCP POSTGRESQL_PROGRAMS. The hosts:

    archive   PostgreSQL, glionode listen          office    the sender, glionode deliver, storescp
    first     glionode work                        second    glionode work

The workers segment by stand-in (tests/support/stand_in_segmenter.py), which is told to hold its job until one of them
is killed by SIGKILL, disk and all. All else is what a site would run.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.support.network_hosts import Hosts, parent_of, postgresql
from tests.support.node import write_model
from tests.support.programs import GLIONODE, SERVICE, running, wait_for

TAKEN_OVER_WITHIN_S = 30


class Walk:
    """The walk's folders and processes."""

    def __init__(self, work: Path, stack: ExitStack, hosts: Hosts) -> None:
        self.work = work
        self.controls = work / "controls"
        self.controls.mkdir()
        self._stack = stack
        self._hosts = hosts

    def start(self, host: str, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A process on a host until the walk's end."""
        return self._stack.enter_context(running(self._hosts.on(host, *command), self.work / f"{name}.log", 20))

    def at_work(self) -> list[int]:
        """Process ids of the workers that began a job, one for each beginning."""
        log = self.controls / "log"
        return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def main(studies: Path, work: Path, storescu: str, storescp: str, programs: Path) -> None:
    """Walk once and print what came of it."""
    hosts = Hosts(work / "disk")
    archive, office = hosts.add("archive"), hosts.add("office")
    for worker in ("first", "second"):
        hosts.add(worker)
    received = work / "received"
    received.mkdir()
    expected = 2 * sum(1 for study in studies.iterdir() if study.is_dir())
    with ExitStack() as stack:
        url = stack.enter_context(postgresql(hosts, "archive", archive, programs, work / "postgresql"))
        walk = Walk(work, stack, hosts)
        _configure(walk, url, archive, office)
        (walk.controls / "hold").touch()
        walk.start("office", "storescp", storescp, "--aetitle", "PACS", "-od", str(received), "11113")
        wait_for("PostgreSQL's start", lambda: (work / "postgresql" / ".s.PGSQL.5432.lock").exists() or None, 30)
        listener = walk.start("archive", "listen", *GLIONODE, "listen")
        wait_for("listen's start", lambda: _says(work / "listen.log", "listening as"), 60)
        os.environ["GLIONODE_HTTP__ARCHIVE_URL"] = f"http://{archive}:8114"
        deliverer = walk.start("office", "deliver", *GLIONODE, "deliver")
        keepers = {
            host: walk.start(host, host, *SERVICE, "work", str(work / "glionode.toml"), str(walk.controls))
            for host in ("first", "second")
        }
        send = [storescu, "--call", "GLIONODE", "--scan-directories", "--recurse", archive, "11112", str(studies)]
        subprocess.run(hosts.on("office", *send), check=True, capture_output=True, timeout=60)
        at_work = wait_for("both workers' jobs", lambda: _two(walk.at_work()), 60)
        health = _get(hosts, "office", f"http://{archive}:8114/health")
        (victim,) = (keeper for keeper in keepers.values() if keeper.pid == parent_of(at_work[0]))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        killed_at = time.monotonic()
        (walk.controls / "hold").unlink()
        wait_for("all jobs' beginning", lambda: len(walk.at_work()) == expected // 2 + 1 or None, 60)
        taken_over_s = time.monotonic() - killed_at
        wait_for("all results", lambda: len(list(received.iterdir())) == expected or None, 60)
        metrics = _get(hosts, "office", f"http://{archive}:8114/metrics")
        jobs = json.loads(_said(hosts, *GLIONODE, "jobs", "--json"))
        asked_at = time.monotonic()
        exit_codes = _end([listener, deliverer, *(keeper for keeper in keepers.values() if keeper is not victim)])
        ended_s = time.monotonic() - asked_at
    found = {"received": str(received), "taken_over_s": taken_over_s, "health": health, "metrics": metrics}
    sys.stdout.write(json.dumps({**found, "jobs": jobs, "ended_s": ended_s, "exit_codes": exit_codes}))


def _configure(walk: Walk, url: str, archive: str, office: str) -> None:
    """One settings file for all hosts, named by the environment."""
    token = walk.work / "token"
    token.write_text("a-token-of-this-walk-alone")
    models = walk.work / "models"
    write_model(models / "stand-in")
    settings = walk.work / "glionode.toml"
    settings.write_text(
        f"""
[listener]
host = "{archive}"
calling_ae_titles = ["STORESCU"]
[storage]
data_dir = {json.dumps(str(walk.work / "disk"))}
minimum_free_mb = 10
[study]
stable_after_s = 1
[model]
name = "stand-in"
installed_dir = {json.dumps(str(models))}
[database]
url = "{url}"
[http]
enabled = true
host = "0.0.0.0"
insecure = true
token_file = {json.dumps(str(token))}
[logging]
format = "json"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "{office}"
port = 11113
"""
    )
    os.environ["GLIONODE_CONFIG"] = str(settings)
    os.environ["GLIONODE_HTTP__PORT"] = "8114"


def _end(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """End them by SIGTERM, all at a time; gives their exit codes."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [process.wait(30) for process in processes]


def _two(at_work: list[int]) -> list[int] | None:
    return at_work if len(set(at_work)) == 2 else None


def _says(log: Path, what: str) -> bool | None:
    return True if what in log.read_text() else None


def _said(hosts: Hosts, *command: str) -> str:
    return subprocess.run(hosts.on("archive", *command), check=True, capture_output=True, text=True, timeout=60).stdout


def _get(hosts: Hosts, host: str, url: str) -> str:
    """A GET as another host sees it: the status and the body."""
    code = f"from tests.end_to_end.walk_with_hosts import get; print(get({url!r}))"
    command = hosts.on(host, sys.executable, "-c", code)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def get(url: str) -> str:
    """The status and the body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as exc:
        return f"{exc.code} {exc.read().decode()}"


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("GLIONODE_")]:
        del os.environ[variable]
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
