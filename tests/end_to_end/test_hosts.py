"""A node on several hosts with Debian's PostgreSQL and no shared disk; one of its workers is killed in its job."""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.support.node import make_instance, write_instance
from tests.support.walks import run_walk

STUDIES = 6


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder that PostgreSQL's user may pass through, as it may not through pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="gn-hosts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgresql_programs() -> Path:
    """The folder of the programs of Debian's package, which are on nobody's path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        message = "Debian's PostgreSQL is missing; `make test` as root installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found[-1].parent


@pytest.fixture
def studies(work: Path) -> dict[str, Path]:
    """Small studies as files, by UID."""
    made = {}
    for _ in range(STUDIES):
        uid = str(generate_uid())[:50].rstrip(".")
        for number in (1, 2, 3):
            write_instance(make_instance(uid, number=number), work / "studies" / uid)
        made[uid] = work / "studies" / uid
    return made


def test_four_hosts_lose_nothing_when_one_dies(
    program: Callable[[str], str], postgresql_programs: Path, studies: dict[str, Path], work: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may make hosts with `ip netns`")
    peers = [program("storescu"), program("storescp"), postgresql_programs]
    result = run_walk("walk_with_hosts", work / "studies", work, *peers, timeout_s=200)
    logs = {path.stem: path.read_text() for path in work.glob("*.log")}
    assert result.returncode == 0, result.stderr + json.dumps(logs, indent=1)
    walked = json.loads(result.stdout)
    received = Counter(str(dcmread(path).SOPInstanceUID) for path in (work / "received").iterdir())
    assert received == Counter(f"{uid}.99.{n}" for uid in studies for n in (1, 2)), "each result once"
    assert walked["taken_over_s"] < 30
    assert (walked["exit_codes"], walked["ended_s"] < 20) == ([0, 0, 0], True)
    assert walked["health"].startswith('200 {"healthy":true')
    assert f'glionode_jobs{{state="segmented"}} {STUDIES}.0' in walked["metrics"]
    assert f"glionode_instances_received_total {3 * STUDIES}.0" in walked["metrics"]
    assert sorted(job["attempts"] for job in walked["jobs"]) == [1] * (STUDIES - 1) + [2], "one job was begun twice"
    for name in ("listen", "deliver", "first", "second"):
        lines = [json.loads(line) for line in logs[name].splitlines()]
        assert {"time", "level", "logger", "message"} <= lines[0].keys()
        assert "MARKERxPHI" not in logs[name]
