"""Send studies to a node on four hosts without a shared disk, and kill a worker during its job. Prints JSON.

    python -m tests.end_to_end.walk_with_hosts STUDIES_FOLDER WORK_FOLDER STORESCU STORESCP POSTGRESQL_PROGRAMS

It needs root. The hosts:

    archive   PostgreSQL, glionode listen          office    the sender, glionode deliver, storescp
    first     glionode work                        second    glionode work

The workers use the stand-in segmenter, which holds its jobs until one of the workers is killed by SIGKILL and its disk
is lost. Everything else is what a site would run.
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
from tests.support.programs import GLIONODE, SERVICE, clear_settings, running, wait_for


class Walk:
    """The folders and processes of a walk."""

    def __init__(self, work: Path, stack: ExitStack, hosts: Hosts) -> None:
        self.work = work
        self.controls = work / "controls"
        self.controls.mkdir()
        self._stack = stack
        self._hosts = hosts

    def start(self, host: str, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process on a host; it runs until the walk ends."""
        return self._stack.enter_context(running(self._hosts.on(host, *command), self.work / f"{name}.log", 20))

    def job_starts(self) -> list[int]:
        """Return the process id of the worker for each job that was started."""
        log = self.controls / "log"
        return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def main(studies: Path, work: Path, storescu: str, storescp: str, programs: Path) -> None:
    """Run the walk and print what was observed."""
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
        wait_for("PostgreSQL's start", (work / "postgresql" / ".s.PGSQL.5432.lock").exists, 30)
        listener = walk.start("archive", "listen", *GLIONODE, "listen")
        wait_for("listen's start", lambda: "listening as" in (work / "listen.log").read_text(), 60)
        os.environ["GLIONODE_HTTP__ARCHIVE_URL"] = f"http://{archive}:8114"
        deliverer = walk.start("office", "deliver", *GLIONODE, "deliver")
        supervisors = {
            host: walk.start(host, host, *SERVICE, "work", str(work / "glionode.toml"), str(walk.controls))
            for host in ("first", "second")
        }
        send = [storescu, "--call", "GLIONODE", "--scan-directories", "--recurse", archive, "11112", str(studies)]
        subprocess.run(hosts.on("office", *send), check=True, capture_output=True, timeout=60)
        wait_for("both workers' jobs", lambda: len(set(walk.job_starts())) == 2, 60)
        health = _get(hosts, "office", f"http://{archive}:8114/health")
        (victim,) = (each for each in supervisors.values() if each.pid == parent_of(walk.job_starts()[0]))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        killed_at = time.monotonic()
        (walk.controls / "hold").unlink()
        wait_for("the start of all jobs", lambda: len(walk.job_starts()) == expected // 2 + 1, 60)
        taken_over_s = time.monotonic() - killed_at
        wait_for("all results", lambda: len(list(received.iterdir())) == expected, 60)
        metrics = _get(hosts, "office", f"http://{archive}:8114/metrics")
        jobs = json.loads(_run_on(hosts, "archive", *GLIONODE, "jobs", "--json"))
        terminated_at = time.monotonic()
        exit_codes = _terminate([listener, deliverer, *(each for each in supervisors.values() if each is not victim)])
        terminated_s = time.monotonic() - terminated_at
    observed = {"received": str(received), "taken_over_s": taken_over_s, "health": health, "metrics": metrics}
    sys.stdout.write(json.dumps({**observed, "jobs": jobs, "terminated_s": terminated_s, "exit_codes": exit_codes}))


def _configure(walk: Walk, url: str, archive: str, office: str) -> None:
    """Write one settings file for all hosts, and name it in the environment."""
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


def _terminate(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Send SIGTERM to all processes, wait for them, and return their exit codes."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [process.wait(30) for process in processes]


def _run_on(hosts: Hosts, host: str, *command: str) -> str:
    """Run a command on a host and return its output."""
    return subprocess.run(hosts.on(host, *command), check=True, capture_output=True, text=True, timeout=60).stdout


def _get(hosts: Hosts, host: str, url: str) -> str:
    """Send a GET request from a host; return the status and the body."""
    code = f"from tests.end_to_end.walk_with_hosts import get; print(get({url!r}))"
    return _run_on(hosts, host, sys.executable, "-c", code)


def get(url: str) -> str:
    """Send a GET request; return the status and the body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as exc:
        return f"{exc.code} {exc.read().decode()}"


if __name__ == "__main__":
    clear_settings()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
