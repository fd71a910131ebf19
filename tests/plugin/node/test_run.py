"""A whole node with a stand-in segmenter: studies are segmented and delivered once, whichever process dies."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydicom import Dataset, dcmread

from pipeline.errors import ModelUnusable, SettingsWrong
from plugin.database.pool import database_url
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.node.forced_end import graceful_s
from plugin.node.lock import running_node
from tests.support.node import (
    MARKER,
    NodeInThread,
    Pacs,
    config_of,
    make_instance,
    new_study_uid,
    run,
    send,
    wait_until,
    write_instance,
)
from tests.support.node_process import NodeInProcess, processes

MakeNode = Callable[..., NodeInThread]


def instances_of(study: str, count: int = 3) -> list[Dataset]:
    return [make_instance(study, number=number) for number in range(1, count + 1)]


def results_of(study: str) -> list[str]:
    return [f"{study}.99.1", f"{study}.99.2"]


def worker_pid(node: NodeInThread) -> int:
    return int((node.controls / "log").read_text().splitlines()[-1].split()[0])


def test_a_received_study_is_segmented_and_sent_once(make_node: MakeNode, pacs: Pacs, caplog: Any, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    node = make_node(destinations=[pacs.destination()]).start()
    study = new_study_uid()
    instances = instances_of(study)
    assert send(node.port, *instances, *instances) == [0x0000] * 6
    wait_until(lambda: sorted(pacs.received) == results_of(study), "both results at the PACS")
    wait_until(lambda: node.status().destinations[0].objects == {"sent": 2}, "the outbox records it")
    # A PACS with auto-routing sends the results back; they must not start a job.
    folder = Path(node.settings.data_dir) / "results" / study
    returned = [dcmread(path) for path in sorted(folder.glob("*/*.dcm"))]
    assert len(returned) == 2
    assert send(node.port, *returned) == [0x0000] * 2
    late = new_study_uid()
    send(node.port, make_instance(late))
    wait_until(lambda: node.jobs_are(segmented=1, not_eligible=1), "the next study is processed")
    assert node.run_count() == 2
    status = node.status()
    assert status.studies_received == 2
    assert status.running is not None
    assert status.running.port == node.port
    node.end()
    assert node.status().running is None
    assert sorted(pacs.received) == results_of(study)
    output = capfd.readouterr()
    assert MARKER not in caplog.text + output.out + output.err


def test_late_instances_start_a_new_job(make_node: MakeNode, pacs: Pacs) -> None:
    node = make_node(destinations=[pacs.destination()]).start()
    study = new_study_uid()
    send(node.port, make_instance(study))
    wait_until(lambda: node.jobs_are(not_eligible=1), "the first instance alone is not eligible")
    send(node.port, *instances_of(study))
    wait_until(lambda: node.jobs_are(not_eligible=1, segmented=1), "with the others it is segmented")
    wait_until(lambda: sorted(pacs.received) == results_of(study), "the results are sent")
    with psycopg.connect(database_url(node.settings)) as connection:
        rows = connection.execute("SELECT state, superseded_by FROM glionode_jobs ORDER BY created_at").fetchall()
        keys = connection.execute("SELECT key FROM glionode_jobs WHERE state = 'segmented'").fetchall()
    assert rows == [("not_eligible", keys[0][0]), ("segmented", None)]


def test_a_killed_worker_is_replaced_and_its_job_finished_once(make_node: MakeNode, pacs: Pacs) -> None:
    node = make_node(destinations=[pacs.destination()]).start("hold")
    study, neighbour = new_study_uid(), new_study_uid()
    send(node.port, *instances_of(study), *instances_of(neighbour))
    wait_until(lambda: node.run_count() == 1, "the worker runs a job")
    os.kill(worker_pid(node), signal.SIGKILL)
    (node.controls / "hold").unlink()
    wait_until(lambda: node.jobs_are(segmented=2), "another worker finishes both")
    wait_until(lambda: len(pacs.received) == 4, "all results at the PACS")
    assert sorted(pacs.received) == sorted(results_of(study) + results_of(neighbour))
    assert node.run_count() == 3


def test_a_job_that_keeps_ending_its_worker_fails_and_the_next_job_runs(make_node: MakeNode) -> None:
    node = make_node()
    (node.controls / "die").write_text("once\n" * 3)
    node.start()
    bad, good = new_study_uid(), new_study_uid()
    send(node.port, *instances_of(bad))
    wait_until(lambda: node.run_count() >= 1, "the first study has started")
    send(node.port, *instances_of(good))
    wait_until(lambda: node.jobs_are(failed=1, segmented=1), "one failed, one segmented")
    (trouble,) = node.status().troubles
    assert trouble.place == f"study {bad}"
    assert "ended 3 times during this job;" in trouble.message


def test_a_job_that_hangs_in_a_step_is_ended_once_and_the_next_job_runs(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node(compute={"step_limit_s": 0.5})
    (node.controls / "hang").write_text("once\n")
    node.start()
    bad, good = new_study_uid(), new_study_uid()
    send(node.port, *instances_of(bad))
    wait_until(lambda: node.run_count() >= 1, "the first study has started")
    send(node.port, *instances_of(good))
    wait_until(lambda: node.jobs_are(failed=1, segmented=1), "one failed, one segmented")
    assert node.run_count() == 2, "neither was tried again"
    (trouble,) = node.status().troubles
    assert trouble.place == f"study {bad}"
    assert "The step segment took longer than 0.5 s, so its worker was ended" in trouble.message
    assert "`glionode retry JOB`" in trouble.message
    status, text = run(config_of(node, data_dir), "retry", bad)
    assert status == 0, text
    wait_until(lambda: node.jobs_are(segmented=2), "it does not hang again, and is segmented")


def test_a_lost_result_is_made_again_at_the_start_and_when_it_is_to_be_sent(make_node: MakeNode, pacs: Pacs) -> None:
    pacs.stop()
    node = make_node(destinations=[pacs.destination()]).start()
    study = new_study_uid()
    send(node.port, *instances_of(study))
    wait_until(lambda: node.jobs_are(segmented=1), "its results wait")
    results = Path(node.settings.data_dir) / "results" / study
    for runs, lost in ((2, "report.json"), (3, "2.dcm")):
        if lost == "report.json":  # no deliverer looks for it
            node.end()
        max(results.glob(f"*/{lost}"), key=lambda path: path.stat().st_mtime_ns).unlink()
        if lost == "report.json":
            node.start()
        wait_until(lambda runs=runs: node.run_count() == runs, f"the job runs again without {lost}")
        wait_until(lambda: node.jobs_are(segmented=1), "its results wait again")
    pacs.start()
    wait_until(lambda: sorted(pacs.received) == results_of(study), "both results at the PACS, once")
    wait_until(lambda: node.status().destinations[0].objects == {"sent": 2}, "the outbox records it")


def test_a_job_that_raises_fails_without_the_exceptions_message(make_node: MakeNode, caplog: Any, capfd: Any) -> None:
    node = make_node().start("fail")
    send(node.port, *instances_of(new_study_uid()))
    wait_until(lambda: node.jobs_are(failed=1), "the job is failed")
    assert node.run_count() == 1
    (trouble,) = node.status().troubles
    assert "An unexpected ValueError in stand_in_segmenter.py line" in trouble.message
    node.end()
    output = capfd.readouterr()
    assert MARKER not in trouble.message + caplog.text + output.out + output.err


def test_a_model_that_does_not_load_is_reported_and_receiving_continues(make_node: MakeNode) -> None:
    node = make_node().start("broken")
    wait_until(lambda: [trouble.place for trouble in node.status().troubles] == ["worker"], "status reports it")
    assert send(node.port, *instances_of(new_study_uid())) == [0x0000] * 3
    (node.controls / "broken").unlink()
    wait_until(lambda: node.jobs_are(segmented=1), "the queued study is segmented when the model loads")
    assert node.status().troubles == ()


def test_a_destination_that_is_down_gets_everything_later_and_delays_no_other(make_node: MakeNode, pacs: Pacs) -> None:
    other = Pacs()
    try:
        pacs.stop()
        other.status = 0xA700
        third = Pacs()
        node = make_node(
            destinations=[pacs.destination("down"), other.destination("full"), third.destination("well")]
        ).start()
        study = new_study_uid()
        send(node.port, *instances_of(study))
        wait_until(lambda: sorted(third.received) == results_of(study), "the one that answers has it")
        wait_until(
            lambda: (
                [entry.objects for entry in node.status().destinations] == [{"failed": 2}, {"failed": 2}, {"sent": 2}]
            ),
            "the others are failed for now",
        )
        down, full, _ = node.status().destinations
        assert "cannot be reached" in (down.last_error or "")
        assert "0xA700" in (full.last_error or "")
        pacs.start()
        other.status = 0x0000
        wait_until(lambda: sorted(pacs.received) == sorted(other.received) == results_of(study), "now all have it")
        wait_until(lambda: all(e.objects == {"sent": 2} for e in node.status().destinations), "status reports it")
        third.stop()
    finally:
        other.stop()


def test_dcmtk_receives(make_node: MakeNode, program: Callable[[str], str], tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    received = tmp_path / "received"
    received.mkdir()
    command = [program("storescp"), "-od", str(received), "-aet", "PACS", "+xa", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as receiver:
        try:
            destination = {"name": "dcmtk", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
            node = make_node(destinations=[destination]).start()
            study = new_study_uid()
            sent = [str(write_instance(instance, tmp_path / "sent")) for instance in instances_of(study)]
            sender = [program("storescu"), "-aec", "GLIONODE", "127.0.0.1", str(node.port), *sent]
            subprocess.run(sender, check=True, capture_output=True)
            wait_until(lambda: node.status().destinations[0].objects == {"sent": 2}, "both were sent")
        finally:
            receiver.terminate()
    results = {str(dcmread(path).SOPInstanceUID): path for path in received.iterdir()}
    assert sorted(results) == results_of(study)
    made = sorted((node.settings.data_dir / "results" / study).glob("*/*.dcm"))
    assert {dcmread(path) == dcmread(results[str(dcmread(path).SOPInstanceUID)]) for path in made} == {True}


def test_a_demonstration_model_needs_accepts_demonstration(make_node: MakeNode, pacs: Pacs, data_dir: Path) -> None:
    destinations = [pacs.destination("clinical"), pacs.destination("trial", accepts_demonstration=True)]
    node = make_node(destinations=destinations)
    description = data_dir / "models/stand-in/model.toml"
    description.write_text(description.read_text().replace('"research"', '"demonstration"'))
    node.start()
    study = new_study_uid()
    send(node.port, *instances_of(study))
    wait_until(lambda: sorted(pacs.received) == results_of(study), "the trial destination has them")
    wait_until(lambda: node.status().destinations[1].objects == {"sent": 2}, "status reports it")
    clinical = node.status().destinations[0]
    assert clinical.objects == {"refused": 2}
    assert "accepts_demonstration" in (clinical.refused_because or "")
    assert sorted(pacs.received) == results_of(study)


def test_studies_received_before_a_restart_are_segmented_after_it(make_node: MakeNode) -> None:
    node = make_node(study={"stable_after_s": 2}, shutdown={"drain_s": 0.2}).start("hold")
    first, second = new_study_uid(), new_study_uid()
    send(node.port, *instances_of(first))
    wait_until(lambda: node.run_count() == 1, "the first study is running")
    send(node.port, *instances_of(second))  # it has no job yet when the node stops
    assert node.status().jobs == {"running": 1}
    node.end()
    (node.controls / "hold").unlink()
    again = make_node()
    again.start()
    wait_until(lambda: again.jobs_are(segmented=2), "both are segmented")
    with psycopg.connect(database_url(again.settings)) as connection:
        attempts = connection.execute("SELECT DISTINCT attempts FROM glionode_jobs").fetchall()
    assert attempts == [(1,)], "an orderly stop is not counted as an attempt"


def test_below_the_minimum_of_free_space_it_refuses_and_reports_it(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node(storage={"data_dir": str(data_dir / "data"), "minimum_free_mb": 1 << 40}).start()
    assert send(node.port, make_instance(new_study_uid())) == [0xA700]
    status = node.status()
    assert status.receiving is False
    assert status.studies_received == 0


def test_a_killed_node_leaves_no_process_and_the_next_one_continues(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node()
    (node.controls / "hold").touch()
    first = NodeInProcess(node, data_dir)
    study, other = new_study_uid(), new_study_uid()
    send(first.port, *instances_of(study), *instances_of(other))
    wait_until(lambda: node.run_count() == 1, "a job is running")
    descendants = first.descendants()
    assert {"postgres"} < set(descendants.values())
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not descendants.keys() & processes().keys(), "worker and database have ended", 20)
    assert running_node(first.data_dir) is None
    (node.controls / "hold").unlink()
    node.start()
    wait_until(lambda: node.jobs_are(segmented=2), "both are segmented")
    assert node.run_count() == 3


def test_a_killed_database_is_restarted_and_nothing_is_lost(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node()
    (node.controls / "hold").touch()
    process = NodeInProcess(node, data_dir)
    send(process.port, *instances_of(new_study_uid()))
    wait_until(lambda: node.run_count() == 1, "a job is running")
    for pid, name in process.descendants().items():
        if name == "postgres":
            os.kill(pid, signal.SIGKILL)
    assert send(process.port, *instances_of(new_study_uid())) == [0x0000] * 3
    (node.controls / "hold").unlink()
    wait_until(lambda: node.jobs_are(segmented=2), "both are segmented")
    process.process.terminate()
    assert process.process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node(make_node: MakeNode, data_dir: Path, number: signal.Signals) -> None:
    node = make_node()
    process = NodeInProcess(node, data_dir)
    descendants = process.descendants()
    process.process.send_signal(number)
    assert process.process.wait(30) == 0
    # multiprocessing's resource tracker notices the end of its parent a moment later.
    wait_until(lambda: not descendants.keys() & processes().keys(), "no process is left", 5)
    assert "listening as GLIONODE on 127.0.0.1:" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_signal_stops_the_node_in_bounded_time_during_a_job(make_node: MakeNode, data_dir: Path) -> None:
    drain_s = 6.0
    node = make_node(shutdown={"drain_s": drain_s})
    (node.controls / "hold").touch()
    process = NodeInProcess(node, data_dir)
    study, late = new_study_uid(), make_instance(new_study_uid())
    send(process.port, *instances_of(study))
    wait_until(lambda: node.run_count() == 1, "a job is running")
    ae = ApplicationEntity("SCANNER")
    ae.add_requested_context(late.SOPClassUID, late.file_meta.TransferSyntaxUID)
    peer = ae.associate("127.0.0.1", process.port, ae_title="GLIONODE")
    assert peer.is_established
    begun = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in process.log.read_text(), "it drains")
    assert peer.send_c_store(late).Status == 0x0000, "a sender may continue for a while"
    assert process.process.wait(30) == 0
    assert graceful_s(drain_s) <= time.monotonic() - begun < drain_s + 10, "a busy machine reaps it late"
    wait_until(lambda: not peer.is_established, "the association is aborted")
    (node.controls / "hold").unlink()
    node.start()
    wait_until(lambda: node.jobs_are(segmented=1, not_eligible=1), "both are processed after the next start")
    with psycopg.connect(database_url(node.settings)) as connection:
        assert connection.execute("SELECT DISTINCT attempts FROM glionode_jobs").fetchall() == [(1,)]


def test_a_missing_model_is_reported_before_anything_starts(make_node: MakeNode) -> None:
    node = make_node(model={"name": "absent"})
    with pytest.raises(ModelUnusable, match="absent"):
        node.start()


def test_a_port_in_use_is_reported(make_node: MakeNode, pacs: Pacs) -> None:
    with pytest.raises(SettingsWrong, match=f"127.0.0.1:{pacs.port}"):
        make_node(listener={"port": pacs.port}).start()


def test_a_second_node_on_the_same_folder_is_refused(make_node: MakeNode) -> None:
    make_node().start()
    with pytest.raises(SettingsWrong, match=r"already running on"):
        make_node().start()
