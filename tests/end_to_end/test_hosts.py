"""Test a node on several hosts with Debian's PostgreSQL and no shared disk, whose worker is killed during a job."""

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

from tests.support.installed import skip_missing
from tests.support.node import make_instance, write_instance
from tests.support.walks import run_walk

STUDIES = 6


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter; it may not enter pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="gn-hosts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgresql_programs() -> Path:
    """The folder of the programs of Debian's package, which is not in PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        skip_missing("Debian's PostgreSQL")
    return found[-1].parent


@pytest.fixture
def studies(work: Path) -> dict[str, Path]:
    """Folders of small studies, by UID."""
    made = {}
    for _ in range(STUDIES):
        uid = str(generate_uid())[:50].rstrip(".")
        for number in (1, 2, 3):
            write_instance(make_instance(uid, number=number), work / "studies" / uid)
        made[uid] = work / "studies" / uid
    return made


def test_no_result_is_lost_or_sent_twice_when_a_host_dies(
    program: Callable[[str], str], postgresql_programs: Path, studies: dict[str, Path], work: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may make hosts with `ip netns`")
    peers = [program("storescu"), program("storescp"), postgresql_programs]
    result = run_walk("walk_with_hosts", work / "studies", work, *peers, timeout_s=200)
    logs = {path.stem: path.read_text() for path in work.glob("*.log")}
    assert result.returncode == 0, result.stderr + json.dumps(logs, indent=1)
    observed = json.loads(result.stdout)
    received = Counter(str(dcmread(path).SOPInstanceUID) for path in (work / "received").iterdir())
    assert received == Counter(f"{uid}.99.{n}" for uid in studies for n in (1, 2)), "each result once"
    assert observed["taken_over_s"] < 30
    assert (observed["exit_codes"], observed["terminated_s"] < 20) == ([0, 0, 0], True)
    assert observed["health"].startswith('200 {"healthy":true')
    assert f'glionode_jobs{{state="segmented"}} {STUDIES}.0' in observed["metrics"]
    assert f"glionode_instances_received_total {3 * STUDIES}.0" in observed["metrics"]
    assert sorted(job["attempts"] for job in observed["jobs"]) == [1] * (STUDIES - 1) + [2], (
        "the killed worker's job has two attempts"
    )
    for name in ("listen", "deliver", "first", "second"):
        lines = [json.loads(line) for line in logs[name].splitlines()]
        assert {"time", "level", "logger", "message"} <= lines[0].keys()
        assert "MARKERxPHI" not in logs[name]
