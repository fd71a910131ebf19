"""From one release to the next: data of version 0.1.0 under this version.

`release_0_1_0/` was made once by that version's own code, with the stand-in segmenter, and dumped while it ran, as a
crash would have left it: a job in every state, one of them running, and a delivery in every state. Its report.json got
the study_instance_uid that the stand-in left out then and a real report has. Times were moved into the past.
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from plugin.database import upgrade
from plugin.database.pool import database_url, running_database
from plugin.database.schema import SCHEMA_VERSION, read_schema
from plugin.errors import DatabaseUnavailable
from plugin.settings.sections import Settings
from tests.support.node import NodeInThread, Pacs, config_of, make_instance, new_study_uid, run, send, wait_until

RELEASE = Path(__file__).with_name("release_0_1_0")
FIRST = "1.2.826.0.1.3680043.8.498.1000"
SEGMENTED, RUNNING, QUEUED = f"{FIRST}1", f"{FIRST}4", f"{FIRST}5"
ENDED = {"cancelled": 1, "failed": 1, "not_eligible": 1, "superseded": 1, "unchanged": 1}


def schema_of(settings: Settings) -> tuple[int, int]:
    """Return version and oldest program of a stopped node's database."""
    with running_database(settings) as database, database.pool.connection() as connection:
        state = read_schema(connection)
    return state.version, state.oldest_program


@pytest.fixture
def node(make_node: Callable[..., NodeInThread], pacs: Pacs) -> NodeInThread:
    """A node that does not run, on the data of version 0.1.0."""
    destinations = [pacs.destination(name) for name in ("pacs", "away", "with-queued")]
    made = make_node(destinations=destinations)
    data_dir = made.settings.data_dir
    for name, content in json.loads((RELEASE / "files.json").read_text()).items():
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_bytes(zlib.decompress(base64.b64decode(content)))
    with running_database(made.settings), psycopg.connect(database_url(made.settings), autocommit=True) as connection:
        connection.execute((RELEASE / "database.sql").read_text().replace("@DATA_DIR@", str(data_dir)).encode())
    return made


def test_jobs_and_deliveries_of_the_release_before_go_on(node: NodeInThread, pacs: Pacs, tmp_path: Path) -> None:
    config = config_of(node, tmp_path)
    code, text = run(config, "jobs", "--json")
    before = {job["key"]: job for job in json.loads(text)}
    assert (code, Counter(job["state"] for job in before.values())) == (
        0,
        {**ENDED, "running": 1, "queued": 1, "segmented": 1},
    )
    assert schema_of(node.settings) == (15, 15), "a command that reads has changed nothing"
    node.start()
    wait_until(lambda: node.jobs_are(**ENDED, segmented=3), "the jobs that were open are segmented")
    kept = {f"with-{state}": {state: 2} for state in ("committed", "dead", "held", "refused", "withdrawn")}
    expected = {"pacs": {"sent": 6}, "away": {"sent": 6}, "with-queued": {"sent": 6}, **kept}
    wait_until(
        lambda: {each.name: each.objects for each in node.status().destinations} == expected, "what waited is sent"
    )
    times = {SEGMENTED: 2, RUNNING: 3, QUEUED: 3}  # the first had been sent to one of three
    assert Counter(pacs.received) == {f"{study}.99.{n}": count for study, count in times.items() for n in (1, 2)}

    new = new_study_uid()
    assert set(send(node.port, *(make_instance(new, number=number) for number in (1, 2)))) == {0}
    wait_until(lambda: node.jobs_are(**ENDED, segmented=4), "a study that comes now is segmented")
    after = {job["key"]: job for job in json.loads(run(config, "jobs", "--json")[1])}
    assert len(after) == len(before) + 1, "no study of before is segmented again"
    for key, job in before.items():
        if job["state"] in ENDED:
            assert after[key] == {**job, "objects": after[key]["objects"]}
    node.end()
    assert schema_of(node.settings) == (SCHEMA_VERSION, 15), "version 0.1.0 may go on with it"

    home = node.settings.data_dir / "postgres"
    (home / "cluster").rename(home / "newer")
    (home / f"before-schema-{SCHEMA_VERSION}").rename(home / "cluster")
    assert schema_of(node.settings) == (15, 15), "and the database from before is there"


def test_without_room_for_a_copy_nothing_is_migrated(node: NodeInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(upgrade, "_ROOM_BYTES", 1 << 60)
        with pytest.raises(DatabaseUnavailable, match=r"from schema 15 to .* Free some space"):
            node.start()
    assert schema_of(node.settings) == (15, 15)


def test_a_backup_by_this_version_of_the_release_before_comes_back_as_it_was(
    node: NodeInThread, tmp_path: Path, data_dir: Path
) -> None:
    code, text = run(config_of(node, tmp_path), "backup", str(tmp_path / "backup"), "--with-images")
    assert (code, "schema 15, 8 jobs" in text) == (0, True), text
    config, new = tmp_path / "new.toml", data_dir / "new"
    config.write_text(f'[storage]\ndata_dir = "{new}"\n')
    code, text = run(config, "restore", str(tmp_path / "backup"))
    assert code == 0, text
    assert schema_of(Settings(storage={"data_dir": str(new)})) == (15, 15), "that release may start on it, too"
    jobs = [json.loads(run(each, "jobs", "--json")[1]) for each in (config_of(node, tmp_path), config)]
    for job in jobs[0]:
        if job["state"] == "running":  # its worker is gone
            job.update(state="queued", attempts=0)
    assert jobs[1] == jobs[0]


def test_a_process_that_does_not_receive_leaves_an_older_database_as_it_is(node: NodeInThread) -> None:
    with running_database(node.settings) as database:
        with pytest.raises(DatabaseUnavailable, match=r"has schema 15.*`glionode listen` of this one"):
            upgrade.prepare_schema(database, owns=False)
        with database.pool.connection() as connection:
            assert read_schema(connection).version == 15
