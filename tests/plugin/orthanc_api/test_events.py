"""Events are reported to a plugin once and in order, over restarts, and whatever its callbacks do."""

import logging
import shutil
import time
from pathlib import Path

import pytest

from plugin.archive.store import results_root
from plugin.database.audit_log import Peer
from plugin.database.pool import Database
from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.enums import ChangeType, InstanceOrigin, ResourceType
from plugin.orthanc_api.index import AddedInstance, Reception
from tests.support.hosted_plugin import (
    SCANNER,
    SCRIPT,
    as_dicom_file,
    open_archive,
    orthanc_ids,
    running,
    store_in_archive,
)
from tests.support.node import MARKER, insert_job, make_instance, new_study_uid, query, wait_until

QUICK = {"stable_after_s": 0.1}


def test_new_instances_are_reported_once_and_in_order(data_dir: Path, database: Database) -> None:
    study = new_study_uid()
    first, second = make_instance(study, number=1), make_instance(study, number=2)
    with running(data_dir, database) as plugin:
        one = plugin.receive(first)
        wait_until(lambda: plugin.events_of(ChangeType.NEW_CHILD_INSTANCE, one.patient), "the first one")
        two = plugin.receive(second)
        wait_until(lambda: len(plugin.events_of(ChangeType.NEW_CHILD_INSTANCE, one.patient)) == 2, "the second one")
    new, child = (ChangeType.NEW_INSTANCE, ResourceType.INSTANCE), ChangeType.NEW_CHILD_INSTANCE
    below = [
        (child, ResourceType.SERIES, one.series),
        (child, ResourceType.STUDY, one.study),
        (child, ResourceType.PATIENT, one.patient),
    ]
    assert [
        (ChangeType.ORTHANC_STARTED, ResourceType.NONE, ""),
        (*new, one.instance),
        (ChangeType.NEW_SERIES, ResourceType.SERIES, one.series),
        (ChangeType.NEW_STUDY, ResourceType.STUDY, one.study),
        (ChangeType.NEW_PATIENT, ResourceType.PATIENT, one.patient),
        *below,
        (*new, two.instance),
        *below,
        (ChangeType.ORTHANC_STOPPED, ResourceType.NONE, ""),
    ] == plugin.script.EVENTS
    sizes = [len(as_dicom_file(each)) for each in (first, second)]
    ids = [one.instance, two.instance]
    origin = (InstanceOrigin.DICOM_PROTOCOL, SCANNER.ae_title)
    assert [(name, *origin, size) for name, size in zip(ids, sizes, strict=True)] == plugin.script.STORED


def test_a_quiet_resource_is_stable_until_an_instance_arrives(data_dir: Path, database: Database) -> None:
    study = new_study_uid()
    with running(data_dir, database, study=QUICK) as plugin:
        ids = plugin.receive(make_instance(study))
        stable = (
            (ChangeType.STABLE_PATIENT, ids.patient),
            (ChangeType.STABLE_STUDY, ids.study),
            (ChangeType.STABLE_SERIES, ids.series),
        )
        wait_until(lambda: all(plugin.events_of(*each) for each in stable), "all three are stable")
        plugin.receive(make_instance(study, number=2))
        wait_until(lambda: all(len(plugin.events_of(*each)) == 2 for each in stable), "they are stable again")
        changes = plugin.orthanc.RestApiGet("/changes?since=0&limit=100").decode()
    assert changes.count("StableStudy") == 2
    assert changes.count('"NewStudy"') == 1


def test_the_first_start_reports_nothing_old(data_dir: Path, database: Database) -> None:
    ids = store_in_archive(open_archive(data_dir), make_instance(new_study_uid()))
    with running(data_dir, database, study=QUICK) as plugin:
        described = plugin.orthanc.RestApiGet(f"/studies/{ids.study}").decode()
        new = plugin.receive(make_instance(new_study_uid()))  # indexed after all that was there
        wait_until(lambda: plugin.events_of(ChangeType.STABLE_STUDY, new.study), "the new study is stable")
        assert [each for each in plugin.script.EVENTS if each[2] in (ids.instance, ids.study)] == []
    assert '"IsStable": true' in described


def test_a_restart_reports_what_arrived_meanwhile_and_nothing_twice(data_dir: Path, database: Database) -> None:
    study = new_study_uid()
    with running(data_dir, database) as plugin:
        before = plugin.receive(make_instance(study, number=1))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_CHILD_INSTANCE, before.patient), "it has arrived")
        plugin.orthanc.RestApiPut(f"/studies/{before.study}/metadata/1024", "kept")
    meanwhile = store_in_archive(plugin.archive, make_instance(study, number=2))
    with running(data_dir, database, study=QUICK) as plugin:
        wait_until(lambda: plugin.events_of(ChangeType.STABLE_STUDY, before.study), "it is stable")
        sender = plugin.orthanc.RestApiGet(f"/instances/{before.instance}/metadata/RemoteAET")
        kept = plugin.orthanc.RestApiGet(f"/studies/{before.study}/metadata/1024")
    assert [each[2] for each in plugin.events_of(ChangeType.NEW_INSTANCE)] == [meanwhile.instance]
    assert plugin.events_of(ChangeType.NEW_STUDY) == []
    assert plugin.script.EVENTS[0][0] == ChangeType.ORTHANC_STARTED
    assert (sender, kept) == (SCANNER.ae_title.encode(), b"kept")
    with running(data_dir, database, study=QUICK) as plugin:
        new = plugin.receive(make_instance(new_study_uid()))
        wait_until(lambda: plugin.events_of(ChangeType.STABLE_STUDY, new.study), "another study is stable")
    assert plugin.events_of(ChangeType.STABLE_STUDY, before.study) == []


def test_a_removal_is_reported_and_its_rows_are_deleted(data_dir: Path, database: Database) -> None:
    study, other = new_study_uid(), new_study_uid()
    instance = make_instance(study)
    with running(data_dir, database, study={"stable_after_s": 3600, "rescan_every_s": 0.05}) as plugin:
        ids = plugin.receive(instance)
        wait_until(lambda: plugin.events_of(ChangeType.NEW_STUDY, ids.study), "it has arrived")
        plugin.orthanc.RestApiPut(f"/studies/{ids.study}/metadata/1024", "kept")
        shutil.rmtree(plugin.archive.data_dir / "archive" / study)
        wait_until(lambda: plugin.events_of(ChangeType.DELETED, ids.study), "it is removed")
        with pytest.raises(plugin.orthanc.OrthancException):
            plugin.orthanc.RestApiGet(f"/studies/{ids.study}")
        plugin.receive(instance)
        wait_until(lambda: len(plugin.events_of(ChangeType.NEW_STUDY, ids.study)) == 2, "it has arrived again")
        with pytest.raises(plugin.orthanc.OrthancException):
            plugin.orthanc.RestApiGet(f"/studies/{ids.study}/metadata/1024")
        plugin.orthanc.RestApiPut(f"/studies/{ids.study}/metadata/1024", "kept")
        last = plugin.receive(make_instance(other))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_STUDY, last.study), "another has arrived")
    shutil.rmtree(plugin.archive.data_dir / "archive" / study)
    with running(data_dir, database) as plugin:
        assert ids.study not in plugin.orthanc.RestApiGet("/studies").decode()
    assert query(database, "SELECT count(*) FROM glionode_plugin_metadata") == [(0,)]


def test_a_callback_that_raises_is_logged_without_its_text(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script = SCRIPT.replace("resource))\n", "resource))\n    raise KeyError('said')\n")
    script = script.replace(
        "    STORED.append", "    raise ValueError(dicom.GetInstanceSimplifiedJson())\n    STORED.append"
    )
    with running(data_dir, database, script) as plugin:
        ids = plugin.receive(make_instance(new_study_uid()))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_CHILD_INSTANCE, ids.patient), "it goes on")
    for kind, error in (("on-change", "KeyError"), ("on-stored-instance", "ValueError")):
        assert f"the hosted plugin's {kind} callback raised {error} at {data_dir / 'script.py'}, line " in caplog.text
    assert "said" not in caplog.text
    assert MARKER not in caplog.text


def test_a_hanging_callback_delays_nothing_else(data_dir: Path, database: Database) -> None:
    hanging = SCRIPT.replace("    STORED.append", "    GO.wait(60)\n    STORED.append")
    script = f"import threading\n\nGO = threading.Event()\n{hanging}"
    begun = time.monotonic()
    with running(data_dir, database, script, study=QUICK, shutdown={"drain_s": 0.5}) as plugin:
        ids = plugin.receive(make_instance(new_study_uid()))
        path = f"/studies/{ids.study}"
        wait_until(lambda: ids.study in plugin.orthanc.RestApiGet("/studies").decode(), "the index goes on")
        wait_until(lambda: '"IsStable": true' in plugin.orthanc.RestApiGet(path).decode(), "it is stable")
    assert time.monotonic() - begun < 50, "the end waits for the callback"
    plugin.script.GO.set()


def test_a_file_that_is_not_dicom_is_skipped(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = new_study_uid()
    with running(data_dir, database) as plugin:
        folder = plugin.archive.data_dir / "archive" / study / f"{study}.1"
        folder.mkdir(parents=True)
        (folder / "1.2.3.dcm").write_bytes(b"no DICOM")
        ids = plugin.receive(make_instance(study))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_STUDY, ids.study), "the other one is reported")
        assert len(plugin.events_of(ChangeType.NEW_INSTANCE)) == 1
    assert f"an instance of study {study} is hidden from the hosted plugin" in caplog.text


def test_an_instance_stored_during_a_poll_is_indexed_again_after_its_deletion(
    data_dir: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_file = EmbeddedHost.index_file
    raced: list[Path] = []

    def stored_meanwhile(host: EmbeddedHost, path: Path, reception: Reception) -> AddedInstance | None:
        if not raced:  # a plugin's POST /instances, between the watcher's check of the index and its adding the file
            raced.append(path)
            index_file(host, path, Reception(InstanceOrigin.PLUGIN))
        return index_file(host, path, reception)

    monkeypatch.setattr(EmbeddedHost, "index_file", stored_meanwhile)
    instance = make_instance(new_study_uid())
    with running(data_dir, database) as plugin:
        ids = plugin.receive(instance)
        wait_until(lambda: plugin.events_of(ChangeType.NEW_PATIENT, ids.patient), "it has arrived")
        last = plugin.receive(make_instance(new_study_uid()))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_STUDY, last.study), "the watcher has passed it")
        plugin.orthanc.RestApiDelete(f"/instances/{ids.instance}")
        plugin.receive(instance)
        wait_until(lambda: len(plugin.events_of(ChangeType.NEW_INSTANCE, ids.instance)) == 2, "it has arrived again")
    assert len(raced) == 1


def test_a_file_that_replaces_a_skipped_one_is_indexed(data_dir: Path, database: Database) -> None:
    study = new_study_uid()
    instance = make_instance(study)
    with running(data_dir, database) as plugin:
        folder = plugin.archive.data_dir / "archive" / study / str(instance.SeriesInstanceUID)
        folder.mkdir(parents=True)
        damaged = folder / f"{instance.SOPInstanceUID}.dcm"
        damaged.write_bytes(b"no DICOM")
        other = plugin.receive(make_instance(study, f"{study}.2"))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE, other.instance), "the watcher has passed it")
        damaged.unlink()
        ids = plugin.receive(instance)
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE, ids.instance), "it has arrived")


def test_the_node_is_called_for_what_a_plugin_stores(data_dir: Path, database: Database) -> None:
    kept: list[tuple[str, Peer]] = []
    instance = make_instance(new_study_uid())
    other = make_instance(instance.StudyInstanceUID)
    other.SOPInstanceUID = instance.SOPInstanceUID
    with running(data_dir, database, start=False) as plugin:
        plugin.plugin.on_stored(lambda study, sender: kept.append((study, sender)))
        plugin.start()
        post = plugin.orthanc.RestApiPost
        answers = [post("/instances", as_dicom_file(each)).decode() for each in (instance, instance, other)]
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE), "it is reported")
        file = plugin.orthanc.GetDicomForInstance(orthanc_ids(instance).instance)
    assert [("AlreadyStored" in each, '"Success"' in each) for each in answers] == [(False, True), *[(True, False)] * 2]
    assert kept == [(instance.StudyInstanceUID, Peer("", "plugin"))]
    assert plugin.script.STORED[0][1:3] == (InstanceOrigin.PLUGIN, "")
    assert file == as_dicom_file(instance), "the first one stays"


def test_a_full_disk_raises_its_error_code(data_dir: Path, database: Database) -> None:
    with running(data_dir, database) as plugin:
        plugin.archive._minimum_free_bytes = 1 << 62
        with pytest.raises(plugin.orthanc.OrthancException) as caught:
            plugin.orthanc.RestApiPost("/instances", as_dicom_file(make_instance(new_study_uid())))
    assert caught.value.args[0] == plugin.orthanc.ErrorCode.FULL_STORAGE


def test_images_of_an_open_job_are_not_deleted(data_dir: Path, database: Database) -> None:
    instance = make_instance(new_study_uid())
    study = str(instance.StudyInstanceUID)
    with running(data_dir, database) as plugin:
        ids = plugin.receive(instance)
        result = results_root(plugin.archive.data_dir) / study / "a-result"
        result.mkdir(parents=True)
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE), "it is reported")
        for state, deleted in (("queued", False), ("running", False), ("segmented", True)):
            query(database, "DELETE FROM glionode_jobs WHERE study_instance_uid = %s", study)
            insert_job(database, f"{study}-key", study, state)
            if not deleted:
                with pytest.raises(plugin.orthanc.OrthancException) as caught:
                    plugin.orthanc.RestApiDelete(f"/studies/{ids.study}")
                assert caught.value.args[0] == plugin.orthanc.ErrorCode.BAD_SEQUENCE_OF_CALLS
                assert len(plugin.archive.files(study)) == 1
        plugin.orthanc.RestApiDelete(f"/studies/{ids.study}")
        assert plugin.archive.files(study) == ()
        assert result.is_dir(), "the node's own results are the node's"
        wait_until(lambda: plugin.events_of(ChangeType.DELETED, ids.study), "it is reported to the plugin")
