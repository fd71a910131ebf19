"""The index of the archive: rows behind the acknowledgement, and what a start finds again."""

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import psycopg
import pytest

from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import EmbeddedArchive, InstanceKey
from plugin.archive.study_inputs import read_inputs
from plugin.commitment.verify import make_report
from plugin.database import instance_rows
from plugin.database.pool import Database
from plugin.dimse.commitment_messages import FailureReason, Reference
from plugin.jobs.archive_index import ArchiveIndex, mark, read_inputs_by_index
from plugin.jobs.job import Finished, new_job
from plugin.jobs.queue import JobQueue
from plugin.retention.purge import PurgedStudy, Purger
from tests.support.node import MR_IMAGE_STORAGE, query, wait_until

LONG_AGO = 1e9


class CountingArchive(EmbeddedArchive):
    """Counts how often the files of a study are listed."""

    listed: list[str]

    def files(self, study_instance_uid: str) -> tuple[Path, ...]:
        self.listed.append(study_instance_uid)
        return super().files(study_instance_uid)


@pytest.fixture
def archive(tmp_path: Path) -> CountingArchive:
    made = CountingArchive(tmp_path / "archive", 0)
    made.open()
    made.listed = []
    return made


def store(archive: EmbeddedArchive, study: str, number: int) -> InstanceKey:
    key = InstanceKey(study, f"{study}.1", f"{study}.1.{number}")
    incoming = archive.create_file()
    incoming.write(encode_file_meta(MR_IMAGE_STORAGE, key.sop_instance_uid, "1.2.840.10008.1.2.1"))
    incoming.write(b"content" * number)
    archive.store(key, incoming)
    return key


def age(archive: EmbeddedArchive, study: str) -> None:
    """Have the folders of a study changed long ago."""
    for series in archive.data_dir.glob(f"archive/{study}/*/"):
        os.utime(series, (LONG_AGO, LONG_AGO))


def catch_up(archive: EmbeddedArchive, database: Database) -> ArchiveIndex:
    """Return the index of a process that has started, caught up and ended."""
    index = ArchiveIndex(archive, database.pool)
    stop = threading.Event()
    thread = threading.Thread(target=index.run, args=(stop,))
    thread.start()
    while index.find([]) is None and thread.is_alive():
        time.sleep(0.01)
    stop.set()
    thread.join()
    return index


def test_an_instance_has_its_row_with_the_digest_of_what_came(archive: CountingArchive, database: Database) -> None:
    index = archive.index = ArchiveIndex(archive, database.pool)
    key = store(archive, "1.1", 3)
    content = archive.path(key).read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    assert query(database, "SELECT * FROM glionode_instances") == [], "the sender has waited for no row"
    assert archive.received_sha256(key) == expected
    index.flush()
    with database.pool.connection() as connection:
        row = instance_rows.of_study(connection, "1.1")[key]
    assert (row.sop_class_uid, row.size_bytes, row.sha256) == (MR_IMAGE_STORAGE, len(content), expected)
    assert archive.received_sha256(key) == expected
    incoming = archive.create_file()
    incoming.write(b"another")
    archive.replace(key, incoming)
    index.flush()
    assert archive.received_sha256(key) == hashlib.sha256(b"another").hexdigest()


def test_instances_are_stored_while_the_database_is_down_and_have_their_rows_later(
    archive: CountingArchive, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = archive.index = catch_up(archive, database)

    def down(*_arguments: object) -> None:
        raise psycopg.OperationalError

    with monkeypatch.context() as without:
        without.setattr(instance_rows, "upsert", down)
        key = store(archive, "1.1", 1)
        with pytest.raises(psycopg.OperationalError):
            index.flush()
        assert index.find([key.sop_instance_uid]) is None, "only the files can say"
        report = make_report(archive, "1", [Reference(MR_IMAGE_STORAGE, key.sop_instance_uid)])
        assert (len(report.committed), report.failed) == (1, ())
    (found,) = index.find([key.sop_instance_uid]) or ()
    assert found.key == key


def test_a_start_finds_what_has_no_row_and_looks_into_no_other_study(
    archive: CountingArchive, database: Database
) -> None:
    archive.index = ArchiveIndex(archive, database.pool)
    old = store(archive, "1.1", 1)
    age(archive, "1.1")
    archive.index.flush()
    catch_up(archive, database)
    lost = store(archive, "1.2", 2)  # its process is killed before it writes the row
    age(archive, "1.2")
    archive.listed.clear()
    index = ArchiveIndex(archive, database.pool)
    assert index.find([lost.sop_instance_uid]) is None, "nobody knows yet"
    index = catch_up(archive, database)
    assert archive.listed == ["1.2"]
    assert {each.key for each in index.find([old.sop_instance_uid, lost.sop_instance_uid]) or ()} == {old, lost}
    assert index.received_sha256(lost) == hashlib.sha256(archive.path(lost).read_bytes()).hexdigest()
    archive.listed.clear()
    catch_up(archive, database)
    assert archive.listed == []


def test_an_archive_from_before_the_index_is_indexed_without_reading_its_files(
    archive: CountingArchive, database: Database
) -> None:
    keys = {store(archive, study, 1) for study in ("1.1", "1.2")}
    age(archive, "1.1")
    index = catch_up(archive, database)
    assert {each.key for each in index.find([key.sop_instance_uid for key in keys]) or ()} == keys
    assert {index.received_sha256(key) for key in keys} == {""}
    marks = query(database, "SELECT study_instance_uid, indexed FROM glionode_archive_studies")
    assert marks == [("1.1", mark(archive.folder_times("1.1")))], "the folder of the other one may change within a tick"


def test_a_file_that_is_gone_is_told_and_may_be_given_up(archive: CountingArchive, database: Database) -> None:
    gone, kept = store(archive, "1.1", 1), store(archive, "1.1", 2)
    age(archive, "1.1")
    catch_up(archive, database)
    archive.path(gone).unlink()
    index = catch_up(archive, database)
    ((place, message),) = query(database, "SELECT place, message FROM glionode_troubles")
    assert (place, "1 images of 1 studies" in message) == ("archive", True)
    archive.index = index
    report = make_report(archive, "1", [Reference(MR_IMAGE_STORAGE, each.sop_instance_uid) for each in (gone, kept)])
    assert [each.sop_instance_uid for each in report.committed] == [kept.sop_instance_uid]
    for series in archive.data_dir.glob("archive/1.1/*/"):
        os.utime(series, (LONG_AGO + 1, LONG_AGO + 1))
    catch_up(archive, database)
    catch_up(archive, database)
    assert len(query(database, "SELECT * FROM glionode_troubles")) == 1, "no start forgets it"
    archive.path(kept).unlink()
    purged = Purger(archive.data_dir, database.pool).purge_requested("1.1", dry_run=False)
    assert isinstance(purged, PurgedStudy)
    assert query(database, "SELECT * FROM glionode_instances") == []
    assert query(database, "SELECT * FROM glionode_archive_studies") == []
    catch_up(archive, database)
    assert query(database, "SELECT * FROM glionode_troubles") == []


def test_what_an_older_version_purged_is_forgotten(archive: CountingArchive, database: Database) -> None:
    key = store(archive, "1.1", 1)
    age(archive, "1.1")
    catch_up(archive, database)
    queue, job = JobQueue(database), new_job("1.1", [key.sop_instance_uid], "m")
    queue.add(job)
    taken = queue.start(job.key)
    assert taken is not None
    queue.finish(taken, Finished("not_eligible", "x"), None, lambda _connection: None)
    query(database, "UPDATE glionode_jobs SET purged_at = now()")
    archive.path(key).unlink()
    archive.path(key).parent.rmdir()
    archive.path(key).parent.parent.rmdir()
    catch_up(archive, database)
    assert query(database, "SELECT * FROM glionode_instances") == []
    assert query(database, "SELECT * FROM glionode_troubles") == []


def test_commitment_to_an_unknown_instance_is_refused_without_a_walk(
    archive: CountingArchive, database: Database
) -> None:
    archive.index = catch_up(archive, database)
    key = store(archive, "1.1", 1)
    archive.listed.clear()
    references = [Reference(MR_IMAGE_STORAGE, uid) for uid in (key.sop_instance_uid, "1.2.3")]
    report = make_report(archive, "1", references)
    assert report.committed == (references[0],)
    assert [(each.reference, each.reason) for each in report.failed] == [(references[1], FailureReason.NO_SUCH_OBJECT)]
    assert archive.listed == []
    os.truncate(archive.path(key), 100)
    assert make_report(archive, "1", references).committed == (), "no promise for a file that was cut"


def test_a_row_that_a_crash_left_behind_a_replacement_is_brought_up_to_date(
    archive: CountingArchive, database: Database
) -> None:
    archive.index = ArchiveIndex(archive, database.pool)
    key = store(archive, "1.1", 1)
    archive.index.flush()
    archive.index = None  # killed before it writes the next row
    incoming = archive.create_file()
    incoming.write(b"another")
    archive.replace(key, incoming)
    index = catch_up(archive, database)
    assert index.received_sha256(key) == hashlib.sha256(b"another").hexdigest()
    rotten = archive.path(key)
    rotten.write_bytes(b"anothes")
    age(archive, "1.1")
    assert catch_up(archive, database).received_sha256(key) == hashlib.sha256(b"another").hexdigest()


def test_inputs_by_the_index_are_those_by_the_files(archive: CountingArchive, database: Database) -> None:
    keys = [store(archive, "1.1", number) for number in (1, 2, 10)]
    other = archive.path(keys[0]).with_name("1.1.1.7.dcm")
    other.write_bytes(encode_file_meta("1.2.840.10008.5.1.4.1.1.66.4", "1.1.1.7", "1.2.840.10008.1.2.1"))
    incoming = archive.create_file()
    incoming.write(archive.path(keys[1]).read_bytes() + b"corrected")
    archive.replace(keys[1], incoming)
    by_files = read_inputs(archive, "1.1")
    age(archive, "1.1")
    catch_up(archive, database)
    archive.listed.clear()
    with database.pool.connection() as connection:
        assert read_inputs_by_index(connection, archive, "1.1") == by_files
        assert (len(by_files.paths), by_files.other_instances, by_files.replacements) == (3, 1, 1)
        assert archive.listed == []
        store(archive, "1.1", 3)
        assert read_inputs_by_index(connection, archive, "1.1") == read_inputs(archive, "1.1"), "the index is behind"


def test_a_study_that_is_gone_is_told_where_no_study_was_marked(archive: CountingArchive, database: Database) -> None:
    """As after a restore, which leaves out how far each study is indexed."""
    key = store(archive, "1.1", 1)
    age(archive, "1.1")
    catch_up(archive, database)
    query(database, "DELETE FROM glionode_archive_studies")
    shutil.rmtree(archive.path(key).parent.parent)
    catch_up(archive, database)
    assert "study 1.1" in query(database, "SELECT message FROM glionode_troubles")[0][0]
    assert isinstance(Purger(archive.data_dir, database.pool).purge_requested("1.1", dry_run=False), PurgedStudy)
    assert query(database, "SELECT * FROM glionode_instances") == []


def test_a_file_that_was_gone_and_came_again_is_no_trouble_any_more(
    archive: CountingArchive, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.jobs.archive_index._SETTLED_AFTER_S", -1.0)
    key = store(archive, "1.1", 1)
    age(archive, "1.1")
    catch_up(archive, database)
    archive.path(key).unlink()
    index = archive.index = catch_up(archive, database)
    assert len(query(database, "SELECT * FROM glionode_troubles")) == 1
    store(archive, "1.1", 1)
    stop = threading.Event()
    thread = threading.Thread(target=index.run, args=(stop,))
    thread.start()
    wait_until(lambda: query(database, "SELECT * FROM glionode_troubles") == [], "it is told no more")
    stop.set()
    thread.join()
