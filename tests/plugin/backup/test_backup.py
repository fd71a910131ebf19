"""Backups: made beside a running node, checked, and restored onto an empty machine."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from pipeline.errors import SettingsWrong
from plugin.archive.restore_mark import refuse_half_restored
from plugin.backup import create, restore
from plugin.backup.create import create_backup
from plugin.backup.manifest import BackupRefused, read_manifest, write_manifest
from plugin.backup.restore import check_backup, restore_backup
from plugin.database.pool import Database, open_pool
from plugin.database.purge_lock import no_purge
from plugin.database.schema import SCHEMA_VERSION
from plugin.errors import DatabaseUnavailable
from plugin.jobs.job import JobState, new_job
from plugin.jobs.queue import JobQueue
from plugin.node.services import open_archive
from plugin.retention.purge import KeptStudy, Purger
from plugin.settings.sections import Settings
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    insert_job,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    stand_in_node,
    wait_until,
)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_node_on_an_empty_machine_goes_on_where_the_lost_one_was(
    make_node: Callable[..., NodeInThread], pacs: Pacs, data_dir: Path, tmp_path: Path
) -> None:
    lost = make_node(destinations=[pacs.destination()]).start()
    sent, waiting, open_, late = (new_study_uid() for _ in range(4))
    results = {study: [f"{study}.99.1", f"{study}.99.2"] for study in (sent, waiting, open_, late)}

    def receive(study: str) -> None:
        assert set(send(lost.port, *(make_instance(study, number=number) for number in (1, 2)))) == {0}

    receive(sent)
    wait_until(lambda: sorted(pacs.received) == results[sent], "the first results at the PACS")
    wait_until(lambda: lost.status().destinations[0].objects == {"sent": 2}, "the node knows that")
    pacs.stop()
    receive(waiting)
    wait_until(lambda: lost.jobs_are(segmented=2), "a second result")
    (lost.controls / "hold").touch()
    receive(open_)
    wait_until(lambda: lost.jobs_are(segmented=2, running=1), "a third study is being segmented")
    code, text = run(config_of(lost, tmp_path), "backup", str(tmp_path / "backup"), "--with-images", "--json")
    assert code == 0, text
    made = json.loads(text)
    assert (made["jobs"], made["named_images"], made["damaged"]) == (3, 0, [])
    receive(late)  # acknowledged after the backup
    before = {name: files_in(lost.settings.data_dir / name) for name in ("archive", "results")}
    (lost.controls / "hold").unlink()
    lost.end()
    shutil.rmtree(lost.settings.data_dir)

    (data_dir / "another").mkdir()
    found = stand_in_node(data_dir / "another", destinations=[pacs.destination()])
    code, text = run(config_of(found, tmp_path), "restore", str(tmp_path / "backup"))
    assert (code, "Restored" in text) == (0, True), text
    for name in ("archive", "results"):
        of_backup = {path: content for path, content in before[name].items() if late not in path}
        assert files_in(found.settings.data_dir / name) == of_backup, name
    pacs.start()
    found.start()
    try:
        wait_until(lambda: found.jobs_are(segmented=3), "the study that was in work is segmented")
        wait_until(lambda: found.status().destinations[0].objects == {"sent": 6}, "all is sent")
        assert sorted(pacs.received) == sorted(results[sent] + results[waiting] + results[open_]), "each once"
        code, text = run(config_of(found, tmp_path), "show", sent, "--json")
        shown = json.loads(text)
        assert {"received", "ended", "sent"} <= {each["what"] for each in shown["audit"]}
        assert Path(shown["results_path"]).is_relative_to(found.settings.data_dir)
        assert set(send(found.port, make_instance(new_study_uid()))) == {0}
    finally:
        found.end()


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Path:
    """A data folder with an image, a result and a request, and rows in the database."""
    data_dir = tmp_path / "data"
    for name in ("archive/1.2/1.3/1.4.dcm", "archive/1.2/urgent", "results/1.2/ab/seg.dcm", "commitments/c.json"):
        path = data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    for passing in ("results/1.2/.glionode-x/seg.dcm", "incoming/a.part", "archive/1.2/1.3/.1.5.dcm.part"):
        (data_dir / passing).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / passing).write_text("half")
    insert_job(database, "key", "1.2")
    query(database, "UPDATE glionode_jobs SET results_path = %s, reason = E'a\tb\\\\N\n'", f"{data_dir}/results/1.2/ab")
    columns = "sop_instance_uid, destination, job_key, path, state, sha256"
    for number, state in enumerate(("sent", "queued")):
        query(
            database,
            f"INSERT INTO glionode_outbox ({columns}) VALUES (%s, 'pacs', 'key', %s, %s, 'other')",
            *(f"1.9.{number}", f"{data_dir}/results/1.2/ab/seg.dcm", state),
        )
    query(database, "INSERT INTO glionode_audit (what, study_instance_uid, detail) VALUES ('sent', '1.2', 'x')")
    return data_dir


@pytest.fixture
def machine(database: Database, tmp_path: Path) -> Iterator[Settings]:
    """The settings of an empty machine: an empty database, and no data folder."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS empty_machine")
        connection.execute("CREATE DATABASE empty_machine")
        url = conninfo.make_conninfo(database.url, dbname="empty_machine")
        yield Settings(database={"url": url}, storage={"data_dir": str(tmp_path / "new")})
        connection.execute("DROP DATABASE empty_machine WITH (FORCE)")


@contextmanager
def database_of(settings: Settings) -> Iterator[Database]:
    with open_pool(settings.database.url) as pool:
        yield Database(settings.database.url, pool, False)


def rows(database: Database, table: str) -> list[Any]:
    return query(database, f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1")  # type: ignore[arg-type]


def test_rows_and_files_come_back(database: Database, filled: Path, machine: Settings, tmp_path: Path) -> None:
    job = new_job("1.7", ["1"], "m")
    JobQueue(database).add(job)
    query(database, "INSERT INTO glionode_archive_studies (study_instance_uid, settled) VALUES ('1.2', 'with its job')")
    JobQueue(database).start(job.key)
    made = create_backup(filled, database, tmp_path / "backup", with_images=True)
    assert made.damaged == ("results/1.2/ab/seg.dcm",), "it does not fit the digest of the row that waits"
    restore_backup(check_backup(tmp_path / "backup"), machine)
    new = machine.data_dir
    assert {name.split("/")[0] for name in files_in(new)} == {"archive", "results", "commitments", "serve.lock"}
    for name, content in files_in(new).items():
        if name != "serve.lock":
            assert content == (filled / name).read_bytes()
            assert (new / name).stat().st_mtime_ns == (filled / name).stat().st_mtime_ns
    with database_of(machine) as restored:
        for table in ("glionode_audit", "glionode_troubles", "glionode_commitments"):
            assert rows(restored, table) == rows(database, table)
        ((path,), (reason,)) = (
            query(restored, "SELECT results_path FROM glionode_jobs WHERE key = 'key'")[0],
            query(restored, "SELECT reason FROM glionode_jobs WHERE key = 'key'")[0],
        )
        assert (path, reason) == (f"{new}/results/1.2/ab", "a\tb\\N\n")
        assert query(restored, "SELECT sop_instance_uid, state, path FROM glionode_outbox ORDER BY 1") == [
            ("1.9.0", "sent", f"{new}/results/1.2/ab/seg.dcm"),
            ("1.9.1", "queued", f"{new}/results/1.2/ab/seg.dcm"),
        ]
        for table in ("glionode_leases", "glionode_archive_studies"):
            assert rows(restored, table) == []
        query(restored, "INSERT INTO glionode_audit (what, study_instance_uid, detail) VALUES ('sent', '1.2', 'y')")
        found = JobQueue(restored).find(job.key)
        assert found is not None
        assert (found.state, found.attempts) == (JobState.QUEUED, 0)
        JobQueue(restored).add(new_job("1.8", ["1"], "m"))  # with the number that the open job had in the queue before
        assert JobQueue(restored).requeue_stalled(20.0) == 1, "the open job waits in the new queue"
        assert query(restored, "SELECT id FROM glionode_identity") != query(
            database, "SELECT id FROM glionode_identity"
        )


def test_results_on_another_host_are_named(database: Database, filled: Path, tmp_path: Path) -> None:
    query(database, "UPDATE glionode_outbox SET sha256 = '', path = '/elsewhere/results/1.2/ab/seg.dcm'")
    made = create_backup(filled, database, tmp_path / "backup", with_images=True)
    assert made.damaged == ("/elsewhere/results/1.2/ab/seg.dcm",)


def test_what_came_while_the_files_were_copied(
    database: Database, filled: Path, machine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump_tables = create.dump_tables

    def dump_and_go_on(connection: Any, folder: Path) -> Any:
        dumped = dump_tables(connection, folder)
        for name in ("archive/1.2/1.3/1.6.dcm", "results/1.2/cd/seg.dcm"):
            (filled / name).parent.mkdir(exist_ok=True)
            (filled / name).write_text("came later")
        query(database, "INSERT INTO glionode_audit (what, study_instance_uid, detail) VALUES ('sent', '1.2', 'later')")
        return dumped

    monkeypatch.setattr(create, "dump_tables", dump_and_go_on)
    create_backup(filled, database, tmp_path / "backup", with_images=True)
    restore_backup(check_backup(tmp_path / "backup"), machine)
    assert (machine.data_dir / "archive/1.2/1.3/1.6.dcm").exists(), "an image that was acknowledged is kept"
    assert not (machine.data_dir / "results/1.2/cd").exists(), "a result without its row is to be made again"
    assert (machine.data_dir / "results/1.2/ab/seg.dcm").exists()
    with database_of(machine) as restored:
        assert [row[0]["detail"] for row in rows(restored, "glionode_audit")] == ["x"]


class TestWithoutImages:
    def test_images_are_taken_from_where_they_are(
        self, database: Database, filled: Path, machine: Settings, tmp_path: Path
    ) -> None:
        made = create_backup(filled, database, tmp_path / "backup", with_images=False)
        assert (made.named_images, made.copied_files) == (2, 2)
        copy = filled.rename(tmp_path / "copy")
        with pytest.raises(BackupRefused, match=r"2 of them are missing.*--images"):
            check_backup(tmp_path / "backup")
        restore_backup(check_backup(tmp_path / "backup", copy), machine)
        assert files_in(machine.data_dir / "archive").keys() == {"1.2/1.3/1.4.dcm", "1.2/urgent"}

    def test_images_that_are_nowhere_are_left_out_on_demand(
        self, database: Database, filled: Path, machine: Settings, tmp_path: Path
    ) -> None:
        create_backup(filled, database, tmp_path / "backup", with_images=False)
        (filled / "archive/1.2/1.3/1.4.dcm").write_text("another")
        checked = check_backup(tmp_path / "backup", without_images=True)
        assert checked.missing_images == 1
        restore_backup(checked, machine)
        assert files_in(machine.data_dir / "archive").keys() == {"1.2/urgent"}


class TestNeverHalfABackup:
    @pytest.mark.parametrize("place", ["there", "data/inside", "nowhere/backup"])
    def test_a_wrong_place_is_refused(self, database: Database, filled: Path, tmp_path: Path, place: str) -> None:
        (tmp_path / "there").mkdir()
        before = files_in(tmp_path)
        with pytest.raises(BackupRefused):
            create_backup(filled, database, tmp_path / place, with_images=False)
        assert files_in(tmp_path) == before

    def test_a_disk_that_is_too_small_is_refused(
        self, database: Database, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        with pytest.raises(BackupRefused, match=r"needs \d+ MB, and 1 MB are free"):
            create_backup(filled, database, tmp_path / "backup", with_images=True)

    def test_a_failure_leaves_nothing(
        self, database: Database, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".backup.part").mkdir()  # of one that was killed
        before = files_in(tmp_path)

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(create, "write_manifest", fail)
            with pytest.raises(BackupRefused, match="No space left on device"):
                create_backup(filled, database, tmp_path / "backup", with_images=True)
        assert files_in(tmp_path) == before
        create_backup(filled, database, tmp_path / "backup", with_images=True)
        assert not (tmp_path / ".backup.part").exists()

    def test_a_disk_that_keeps_other_bytes_is_noticed(
        self, database: Database, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(create, "sync_tree", lambda part: (part / "files/commitments/c.json").write_text("x"))
        with pytest.raises(BackupRefused, match="does not keep what is written"):
            create_backup(filled, database, tmp_path / "backup", with_images=True)
        assert not (tmp_path / "backup").exists()

    def test_only_one_is_made_at_a_time(
        self, database: Database, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("plugin.database.purge_lock._WAIT_S", 1)
        with psycopg.connect(database.url, autocommit=True) as other, no_purge(other):
            with pytest.raises(DatabaseUnavailable, match="Another backup"):
                create_backup(filled, database, tmp_path / "backup", with_images=True)
            purger = Purger(filled, database.pool)
            for kept in (purger.purge_requested("1.2", False), purger.purge("1.2", 9e9, 0, False)):
                assert isinstance(kept, KeptStudy)
                assert "backup" in kept.why
        assert not isinstance(purger.purge_requested("1.2", dry_run=True), KeptStudy)


class TestWhatIsNotRestored:
    @pytest.fixture
    def backup(self, database: Database, filled: Path, tmp_path: Path) -> Path:
        create_backup(filled, database, tmp_path / "backup", with_images=True)
        return tmp_path / "backup"

    @pytest.mark.parametrize(
        "name", ["files/archive/1.2/1.3/1.4.dcm", "files.gz", "database/glionode_jobs.gz", "backup.json"]
    )
    @pytest.mark.parametrize("damage", ["missing", "other bytes"])
    def test_a_damaged_backup_changes_nothing(
        self, backup: Path, machine: Settings, tmp_path: Path, name: str, damage: str
    ) -> None:
        (backup / name).unlink()
        if damage == "other bytes":
            (backup / name).write_bytes(b"\x1f\x8b other")
        with pytest.raises(BackupRefused):
            restore_backup(check_backup(backup), machine)
        assert not machine.data_dir.exists()

    def test_a_newer_schema_is_refused(self, backup: Path) -> None:
        write_manifest(backup, replace(read_manifest(backup), schema=SCHEMA_VERSION + 1))
        with pytest.raises(BackupRefused, match=f"schema {SCHEMA_VERSION + 1}.*that version or a newer one"):
            check_backup(backup)

    def test_a_folder_or_database_in_use_is_refused(self, backup: Path, machine: Settings, database: Database) -> None:
        checked = check_backup(backup)
        occupied = Settings(database={"url": database.url}, storage={"data_dir": machine.storage.data_dir})
        with pytest.raises(BackupRefused, match="has tables of glionode"):
            restore_backup(checked, occupied)
        assert not machine.data_dir.exists()
        machine.data_dir.mkdir()
        (machine.data_dir / "lost+found").mkdir()
        (machine.data_dir / "archive").mkdir()
        with pytest.raises(BackupRefused, match=r"not empty \(archive\)"):
            restore_backup(checked, machine)
        assert sorted(path.name for path in machine.data_dir.iterdir()) == ["archive", "lost+found"]

    def test_no_node_starts_on_half_a_restore(
        self, backup: Path, machine: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked = check_backup(backup)

        def fail(*_: object) -> None:
            raise DatabaseUnavailable("gone")

        with monkeypatch.context() as broken:
            broken.setattr(restore, "load_tables", fail)
            with pytest.raises(DatabaseUnavailable, match="gone"):
                restore_backup(checked, machine)
        with pytest.raises(SettingsWrong, match="broken off"), open_archive(machine):
            pass
        with database_of(machine) as found:
            assert query(found, "SELECT to_regclass('glionode_jobs')::text") == [(None,)]
        shutil.rmtree(machine.data_dir)
        restore_backup(checked, machine)
        refuse_half_restored(machine.data_dir)

    def test_a_path_that_leads_out_of_the_folder_is_refused(
        self, database: Database, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def elsewhere(folder: Path, files: Any) -> str:
            return write_index(folder, [replace(each, path=f"archive/../../{each.path}") for each in files])

        write_index = create.write_index
        monkeypatch.setattr(create, "write_index", elsewhere)
        create_backup(filled, database, tmp_path / "backup", with_images=True)
        with pytest.raises(BackupRefused, match="outside of a data folder"):
            check_backup(tmp_path / "backup")


def test_the_commands_say_what_they_do_and_what_they_refuse(
    database: Database, filled: Path, machine: Settings, tmp_path: Path
) -> None:
    config, new = tmp_path / "old.toml", tmp_path / "new.toml"
    query(database, "UPDATE glionode_outbox SET sha256 = ''")
    config.write_text(f'[database]\nurl = "{database.url}"\n[storage]\ndata_dir = "{filled}"\n')
    new.write_text(f'[database]\nurl = "{machine.database.url}"\n[storage]\ndata_dir = "{machine.data_dir}"\n')
    out = str(tmp_path / "backup")
    code, text = run(config, "backup", out)
    assert (code, f"Backup: {out}, schema {SCHEMA_VERSION}, 1 jobs" in text, "2 named by" in text) == (0, True, True)
    assert run(config, "backup", out)[0] == 1, "it never overwrites"
    shutil.rmtree(filled / "archive")
    assert run(new, "restore", out)[0] == 1
    code, text = run(new, "restore", out, "--without-images")
    assert (code, "Left out: 2 images" in text) == (0, True)
    assert run(new, "restore", out, "--without-images")[0] == 1, "the folder is not empty any more"
