"""Let hosts of a node vanish without closing anything, one after the other, and print when work went on.

    python -m tests.end_to_end.walk_with_vanished_hosts [WORK_FOLDER]

It needs root, Debian's PostgreSQL, and five minutes. The hosts are network namespaces:

    base      PostgreSQL           archive   glionode listen         worker    glionode work
    first, second   glionode deliver         office    the sender, and a PACS that remembers when it got what

A host vanishes when its interface is taken off the bridge: packets are dropped, in silence and in both directions.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from tests.support.network_hosts import Hosts, postgresql
from tests.support.node import make_instance, send, write_model
from tests.support.programs import GLIONODE, SERVICE, clear_settings, running, wait_for
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

_GOES_ON_WITHIN_S = 60.0
_SAYS_SO_WITHIN_S = 30.0
_AWAY_S = 60.0


class Walk:
    """The hosts, what runs on them, and what was measured."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self.work = work
        self.hosts = Hosts(work / "disk")
        self._stack = stack
        self.address = {
            name: self.hosts.add(name) for name in ("base", "archive", "worker", "first", "second", "office")
        }
        self.rows: list[tuple[str, float, float]] = []
        self.sent: list[str] = []

    def start(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process on a host; it runs until the walk ends."""
        return self._stack.enter_context(running(self.hosts.on(host, *command), self.work / f"{host}.log", 20))

    def received(self) -> list[str]:
        """Return the UIDs of the objects that the PACS got, in their order."""
        log = self.work / "pacs.txt"
        return log.read_text().split() if log.exists() else []

    def send_study(self) -> None:
        """Send a study of three images from the office."""
        study = str(generate_uid())[:50].rstrip(".")
        code = f"from tests.end_to_end.walk_with_vanished_hosts import send_study; send_study({study!r}, "
        self._run_on("office", sys.executable, "-c", f"{code}{self.address['archive']!r})")
        self.sent += [f"{study}.99.{number}" for number in (1, 2)]

    def health(self, host: str) -> dict[str, Any]:
        """Return the body of a host's /health, as asked on that host; empty where there is no answer."""
        code = "from tests.end_to_end.walk_with_vanished_hosts import get; print(get('http://127.0.0.1:8114/health'))"
        return dict(json.loads(self._run_on(host, sys.executable, "-c", code)))

    def measure(self, what: str, within_s: float, poll: Callable[[], object]) -> None:
        """Wait until `poll` returns something true, and note how long that took."""
        began = time.monotonic()
        try:
            wait_for(what, poll, 2 * within_s)
            took_s = time.monotonic() - began
        except TimeoutError:
            took_s = float("inf")
        self.rows.append((what, took_s, within_s))

    def all_is_delivered(self) -> bool:
        """Return whether the PACS has all results of what was sent."""
        return set(self.received()) >= set(self.sent)

    def _run_on(self, host: str, *command: str) -> str:
        done = subprocess.run(self.hosts.on(host, *command), capture_output=True, text=True, check=False, timeout=90)
        if done.returncode:
            raise RuntimeError(f"{host}: {done.stderr[-2000:]}")
        return done.stdout


def main(work: Path) -> int:
    """Run the walk; print what was measured and return an exit status."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[-1].parent
    with ExitStack() as stack:
        walk = Walk(work, stack)
        url = stack.enter_context(postgresql(walk.hosts, "base", walk.address["base"], programs, work / "postgresql"))
        wait_for("PostgreSQL's start", (work / "postgresql" / ".s.PGSQL.5432.lock").exists, 30)
        _start(walk, url)
        walk.send_study()
        walk.measure("a study is delivered", _GOES_ON_WITHIN_S, walk.all_is_delivered)
        _let_the_deliverer_vanish(walk)
        _let_the_database_vanish(walk)
        options = walk._run_on(
            *("worker", str(programs / "psql"), url, "-Atc"),
            "SELECT count(*), min(client_port) > 0 FROM pg_stat_activity WHERE application_name LIKE 'glionode %'",
        )
    twice = {uid: count for uid, count in Counter(walk.received()).items() if count > 1}
    print(f"\nsessions of glionode over TCP: {options.strip()}")
    print(f"objects sent {len(walk.sent)}, received {len(set(walk.received()))}, more than once {len(twice)}\n")
    print(f"{'what':72} {'took':>8} {'within':>8}")
    for what, took_s, within_s in walk.rows:
        print(f"{what:72} {took_s:6.1f} s {within_s:6.0f} s{'' if took_s <= within_s else '   TOO LATE'}")
    return int(bool(twice) or not walk.all_is_delivered() or any(took > within for _, took, within in walk.rows))


def _start(walk: Walk, url: str) -> None:
    _configure(walk, url)
    walk.start("office", sys.executable, "-m", __spec__.name if __spec__ else __name__, "pacs", str(walk.work))
    walk.start("archive", *GLIONODE, "listen")
    wait_for("listen's start", lambda: "listening as" in (walk.work / "archive.log").read_text(), 60)
    os.environ["GLIONODE_HTTP__ARCHIVE_URL"] = f"http://{walk.address['archive']}:8114"
    for host in ("first", "second"):
        walk.start(host, *GLIONODE, "deliver")
        wait_for("deliver's start", lambda host=host: "ready to" in (walk.work / f"{host}.log").read_text(), 60)
    walk.start("worker", *SERVICE, "work", str(walk.work / "glionode.toml"), str(walk.work / "controls"))


def _let_the_deliverer_vanish(walk: Walk) -> None:
    """The first deliverer started first, and has the lease."""
    walk.hosts.vanish("first")
    walk.send_study()
    walk.measure("the deliverer's host vanished: the other one delivers", _GOES_ON_WITHIN_S, walk.all_is_delivered)
    walk.hosts.come_back("first")
    walk.hosts.vanish("second")
    walk.send_study()
    walk.measure("it is back, the other one vanished: it delivers", _GOES_ON_WITHIN_S, walk.all_is_delivered)
    walk.hosts.come_back("second")


def _let_the_database_vanish(walk: Walk) -> None:
    began = time.monotonic()
    walk.hosts.vanish("base")
    for host in ("archive", "worker", "second"):
        walk.measure(
            f"the database's host vanished: /health of {host} says so",
            _SAYS_SO_WITHIN_S,
            lambda host=host: walk.health(host).get("checks", {}).get("database", "ok") != "ok",
        )
    walk.send_study()  # the listener acknowledges without it
    time.sleep(max(0.0, _AWAY_S - (time.monotonic() - began)))
    walk.hosts.come_back("base")
    walk.measure("it is back: what came meanwhile is delivered", _GOES_ON_WITHIN_S, walk.all_is_delivered)
    walk.measure(
        "and /health of the archive is good again", _GOES_ON_WITHIN_S, lambda: walk.health("archive")["healthy"]
    )


def _configure(walk: Walk, url: str) -> None:
    """Write one settings file for all hosts, and name it in the environment."""
    work = walk.work
    (work / "controls").mkdir()
    (work / "token").write_text("a-token-of-this-walk-alone")
    write_model(work / "models" / "stand-in")
    settings = work / "glionode.toml"
    settings.write_text(
        f"""
[listener]
host = "{walk.address["archive"]}"
calling_ae_titles = ["SCANNER"]
[storage]
data_dir = {json.dumps(str(work / "disk"))}
minimum_free_mb = 10
[study]
stable_after_s = 1
[model]
name = "stand-in"
installed_dir = {json.dumps(str(work / "models"))}
[database]
url = "{url}"
[http]
enabled = true
host = "0.0.0.0"
insecure = true
token_file = {json.dumps(str(work / "token"))}
[delivery]
timeout_s = 10
retry_first_s = 1
retry_longest_s = 5
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "{walk.address["office"]}"
port = 11113
"""
    )
    os.environ["GLIONODE_CONFIG"] = str(settings)
    os.environ["GLIONODE_HTTP__PORT"] = "8114"


def send_study(study: str, address: str) -> None:
    """Send three images to the archive."""
    statuses = send(11112, *(make_instance(study, number=number) for number in (1, 2, 3)), host=address)
    assert statuses == [0, 0, 0], statuses


def get(url: str) -> str:
    """Send a GET request; return the body of the response, whatever its status, and that of none where none comes."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as exc:
        return exc.read().decode()
    except OSError:
        return "{}"


def run_pacs(work: Path) -> None:
    """Store nothing, and write down the UID of each object that comes."""

    def store(event: Any) -> int:
        with (work / "pacs.txt").open("a") as log:
            log.write(f"{event.request.AffectedSOPInstanceUID}\n")
        return 0x0000

    ae = AE("PACS")
    for sop_class in OUTPUT_CLASSES:
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    ae.start_server(("0.0.0.0", 11113), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    threading.Event().wait()


if __name__ == "__main__":
    clear_settings()
    if sys.argv[1:2] == ["pacs"]:
        run_pacs(Path(sys.argv[2]))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="gn-vanish-"))
    folder.chmod(0o755)
    status = main(folder)
    if len(sys.argv) == 1 and status == 0:
        shutil.rmtree(folder)
    sys.exit(status)
