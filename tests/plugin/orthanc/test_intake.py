"""Studies that Orthanc submits get one job each; their outcome can be read and is written into Orthanc."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from models.package import IntendedUse
from plugin.database.pool import Database, database_id
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.server import http_server, make_app
from plugin.jobs import outbox
from plugin.jobs.job import Finished, JobSource, JobState, new_job
from plugin.jobs.queue import JobQueue
from plugin.orthanc.intake import OrthancIntake, Submission, SubmitOptions
from plugin.orthanc.outcome_marker import OutcomeMarker
from plugin.orthanc.routes import orthanc_routes
from plugin.orthanc.studies import TwoStudies
from plugin.orthanc_script.node_client import STUDY_UNKNOWN, TWO_STUDIES
from plugin.settings.destinations import DestinationSettings, OrthancDestinationSettings
from plugin.settings.sections import HttpSettings, OrthancSettings
from tests.support.fake_orthanc_server import FakeOrthancServer, orthanc_id
from tests.support.node import make_instance, new_study_uid, query, wait_until, write_instance

TOKEN = "a-token-of-the-tests-alone"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SHA = "m" * 64
DESTINATIONS = (
    OrthancDestinationSettings(name="orthanc", via="orthanc"),
    OrthancDestinationSettings(name="beyond", via="orthanc", modality="pacs"),
    DestinationSettings(name="elsewhere", ae_title="PACS", host="127.0.0.1", port=104),
)


@pytest.fixture
def web() -> Iterator[FakeOrthancServer]:
    made = FakeOrthancServer()
    yield made
    made.stop()


@pytest.fixture
def intake(web: FakeOrthancServer, queue: JobQueue, database: Database) -> OrthancIntake:
    return OrthancIntake(OrthancSettings(url=web.url, timeout_s=5), queue, database.pool, SHA, DESTINATIONS)


@pytest.fixture
def store(web: FakeOrthancServer, tmp_path: Path) -> Callable[..., str]:
    """Put an instance of a study into Orthanc; return Orthanc's identifier of the study."""

    def put(study: str, number: int = 1, sop_class: str = "1.2.840.10008.5.1.4.1.1.4", patient: str = "P") -> str:
        instance = make_instance(study, sop_class=sop_class, number=number)
        instance.PatientID = patient
        web.store(write_instance(instance, tmp_path).read_bytes())
        return orthanc_id(patient, study)

    return put


def test_a_study_has_one_job_for_its_images(intake: OrthancIntake, queue: JobQueue, store: Callable[..., str]) -> None:
    uid = new_study_uid()
    study = store(uid)
    first = intake.submit(study, SubmitOptions())
    assert (first.study_instance_uid, first.added, first.state) == (uid, True, "queued")
    assert not intake.submit(study, SubmitOptions()).added
    store(uid, sop_class=SEG)
    assert not intake.submit(study, SubmitOptions()).added, "the node's own results change nothing"
    store(uid, number=2)
    second = intake.submit(study, SubmitOptions(urgent=True))
    assert (second.added, second.job != first.job) == (True, True)
    jobs = {key: queue.find(key) for key in (first.job, second.job)}
    assert {key: job and (job.state, job.source, job.urgent) for key, job in jobs.items()} == {
        first.job: (JobState.SUPERSEDED, JobSource.ORTHANC, False),
        second.job: (JobState.QUEUED, JobSource.ORTHANC, True),
    }


def test_a_study_is_segmented_again_on_request(
    intake: OrthancIntake, queue: JobQueue, store: Callable[..., str]
) -> None:
    study = store(new_study_uid())
    job = intake.submit(study, SubmitOptions()).job
    assert not intake.submit(study, SubmitOptions(again=True)).added, "it is queued anyway"
    taken = queue.start(job)
    assert taken is not None
    queue.finish(taken, Finished(JobState.NOT_ELIGIBLE, "There is no ADC map."), None, lambda _: None)
    assert intake.submit(study, SubmitOptions()).state == "not_eligible"
    again = intake.submit(study, SubmitOptions(again=True))
    assert (again.added, again.job != job, again.state) == (True, True, "queued")
    assert intake.submit(study, SubmitOptions()).job == again.job, "the newest stands for the images"


@pytest.fixture
def segment(
    intake: OrthancIntake, queue: JobQueue, database: Database, web: FakeOrthancServer, tmp_path: Path
) -> Callable[..., str]:
    """Submit a study and finish its job with an object that is delivered; return the key of the job."""

    def run(study: str) -> str:
        key = intake.submit(study, SubmitOptions(again=True)).job
        taken = queue.start(key)
        assert taken is not None
        instance = make_instance(taken.study_instance_uid, sop_class=SEG, number=99)
        instance.PatientID = "P"
        made = outbox.OutgoingObject(str(instance.SOPInstanceUID), write_instance(instance, tmp_path))
        put = partial(
            outbox.put, job_key=key, objects=[made], destinations=DESTINATIONS, intended_use=IntendedUse.RESEARCH
        )
        queue.finish(taken, Finished("segmented", None), str(tmp_path), put)
        with database.pool.connection() as connection:
            for each in DESTINATIONS:
                outbox.record_sent(connection, each.name, made.sop_instance_uid, None)
        web.store(made.path.read_bytes())
        return key

    return run


def test_results_are_sent_again_to_a_study_that_was_deleted_and_received_again(
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    web: FakeOrthancServer,
    segment: Callable[..., str],
) -> None:
    uid = new_study_uid()
    study = store(uid)
    job = segment(study)
    marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5))
    assert marker.mark_ended() == 1

    def again() -> dict[str, str]:
        assert intake.submit(study, SubmitOptions()) == Submission(uid, job, False, "segmented")
        (output,) = intake.outcome(study)["outputs"]
        return dict(output["deliveries"])

    assert again() == {"orthanc": "sent", "beyond": "sent", "elsewhere": "sent"}, "it is there"
    assert marker.mark_ended() == 0
    for name, head in list(web.heads.items()):  # all is deleted, and the images are sent again
        if head.SOPClassUID == SEG:
            del web.heads[name]
    assert again() == {"orthanc": "queued", "beyond": "queued", "elsewhere": "sent"}
    assert again() == {"orthanc": "queued", "beyond": "queued", "elsewhere": "sent"}
    assert marker.mark_ended() == 1, "its mark was deleted, too"


def test_a_study_that_is_segmented_again_gets_the_new_result_alone(
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    web: FakeOrthancServer,
    segment: Callable[..., str],
) -> None:
    study = store(new_study_uid())
    segment(study)
    newest = segment(study)
    for name, head in list(web.heads.items()):
        if head.SOPClassUID == SEG:
            del web.heads[name]
    assert intake.submit(study, SubmitOptions()).job == newest
    queued = query(database, "SELECT DISTINCT job_key FROM glionode_outbox WHERE state = 'queued'")
    assert queued == [(newest,)], "what Orthanc lost of a superseded result is not sent again"


@pytest.mark.parametrize("patient", ["P ", "Q"])
def test_a_patient_that_was_corrected_in_orthanc_has_its_study_segmented_again(
    patient: str,
    intake: OrthancIntake,
    store: Callable[..., str],
    web: FakeOrthancServer,
    segment: Callable[..., str],
    database: Database,
    tmp_path: Path,
) -> None:
    study = store(new_study_uid())
    job = segment(study)
    (made,) = (head for head in web.heads.values() if head.SOPClassUID == SEG)
    outputs = [{"path": f"{made.SOPInstanceUID}.dcm", "sop_class_uid": SEG}]
    (tmp_path / "report.json").write_text(json.dumps({"roles": {}, "outputs": outputs}))
    images = [head for head in web.heads.values() if head.SOPClassUID != SEG]
    web.heads.clear()  # all is deleted, and the images come back with the ID corrected and their UIDs kept
    for image in images:
        image.PatientID = patient
        web.store(write_instance(image, tmp_path / "corrected").read_bytes())
    taken = intake.submit(orthanc_id(patient.strip(), str(made.StudyInstanceUID)), SubmitOptions())
    corrected = patient == "Q"
    assert (taken.job != job, taken.added, taken.state) == (
        (True, True, "queued") if corrected else (False, False, "segmented")
    )
    # What was made for the former patient is sent to nobody again; only what was lost of the same patient is.
    queued = query(database, "SELECT count(*) FROM glionode_outbox WHERE state = 'queued'")
    assert queued == [(0 if corrected else 2,)]
    if corrected:
        once_more = intake.submit(orthanc_id("Q", str(made.StudyInstanceUID)), SubmitOptions())
        assert (once_more.job, once_more.added) == (taken.job, False), "it is corrected once"


def test_a_study_without_its_images_keeps_the_outcome_of_its_result(
    intake: OrthancIntake, store: Callable[..., str], web: FakeOrthancServer, segment: Callable[..., str]
) -> None:
    study = store(new_study_uid())
    job = segment(study)
    for name, head in list(web.heads.items()):
        if head.SOPClassUID != SEG:
            del web.heads[name]
    taken = intake.submit(study, SubmitOptions())
    assert (taken.job, taken.added, taken.state) == (job, False, "segmented")
    assert intake.outcome(study)["state"] == "segmented"
    assert intake.status()["jobs"]["not_eligible"] == 0


@pytest.mark.parametrize("foreign", [False, True])
def test_a_study_with_the_nodes_own_objects_alone_gets_no_new_job(
    foreign: bool,
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    web: FakeOrthancServer,
    segment: Callable[..., str],
) -> None:
    uid = new_study_uid()
    study = store(uid)
    job = segment(study)
    with database.pool.connection() as connection:  # a report that says why it is none
        connection.execute("UPDATE glionode_jobs SET state = 'not_eligible' WHERE key = %s", (job,))
    for name, head in list(web.heads.items()):
        if head.SOPClassUID != SEG:
            del web.heads[name]
    if foreign:
        store(uid, number=2, sop_class=SEG)
    assert (intake.submit(study, SubmitOptions()).job == job) is not foreign


def test_a_study_that_cannot_be_segmented_has_a_reason(
    intake: OrthancIntake, store: Callable[..., str], web: FakeOrthancServer
) -> None:
    study = store(new_study_uid(), sop_class=SEG)
    assert intake.submit(study, SubmitOptions()).state == "not_eligible"
    assert "1 instances of other kinds" in intake.outcome(study)["reason"]
    with pytest.raises(NotInArchive):
        intake.submit("-".join(["0" * 8] * 5), SubmitOptions())
    web.statuses = [503]
    with pytest.raises(ArchiveUnavailable):
        intake.submit(study, SubmitOptions())


def test_two_studies_of_one_uid_wait_until_one_is_deleted(
    intake: OrthancIntake, store: Callable[..., str], web: FakeOrthancServer
) -> None:
    uid = new_study_uid()
    store(uid, patient="Q")
    wrong, *_ = web.heads
    study = store(uid)
    for _ in range(2):
        with pytest.raises(TwoStudies, match="has 2 studies"):
            intake.submit(study, SubmitOptions())
    found = intake.outcome(study)
    assert (found["state"], found["job"]["image_count"], "2 studies" in found["reason"]) == ("failed", 0, True)
    deleted = web.heads.pop(wrong)
    taken = intake.submit(study, SubmitOptions())
    assert (taken.added, taken.state, intake.outcome(study)["state"]) == (True, "queued", "queued")
    web.heads[wrong] = deleted
    with pytest.raises(TwoStudies):
        intake.submit(study, SubmitOptions())
    assert intake.outcome(study)["job"]["key"] == taken.job, "the earlier outcome stays"


def test_a_study_that_was_never_submitted_is_unknown(intake: OrthancIntake, store: Callable[..., str]) -> None:
    uid = new_study_uid()
    assert intake.outcome(store(uid)) == {"study_instance_uid": uid, "state": "unknown", "reason": None, "job": None}
    assert intake.status()["jobs"] == dict.fromkeys((state.value for state in JobState), 0)


def test_the_outcome_of_a_study_is_marked_in_orthanc(
    web: FakeOrthancServer, intake: OrthancIntake, database: Database, queue: JobQueue, store: Callable[..., str]
) -> None:
    marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5))
    study = store(new_study_uid(), sop_class=SEG)
    own = new_job(new_study_uid(), [], SHA)
    queue.add_finished(own, JobState.NOT_ELIGIBLE, "It did not come from Orthanc.")
    job = intake.submit(study, SubmitOptions()).job
    web.statuses = [503]
    with pytest.raises(ArchiveUnavailable):
        marker.mark_ended()
    assert (marker.mark_ended(), marker.mark_ended()) == (1, 0)
    mark = json.loads(web.marks.pop(study))
    assert (mark["state"], mark["job"], mark["model_sha256"]) == ("not_eligible", job, SHA)
    gone = store(new_study_uid(), sop_class=SEG)
    intake.submit(gone, SubmitOptions())
    web.heads.clear()
    assert (marker.mark_ended(), marker.mark_ended(), web.marks) == (1, 0, {}), (
        "a study that was deleted does not delay others"
    )


def test_a_mark_is_replaced_where_orthanc_checks_revisions(
    web: FakeOrthancServer, intake: OrthancIntake, database: Database, queue: JobQueue, store: Callable[..., str]
) -> None:
    marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5))
    web.check_revisions = True
    study = store(new_study_uid())
    states = []
    for reason in ("There is no ADC map.", None):
        taken = queue.start(intake.submit(study, SubmitOptions(again=True)).job)
        assert taken is not None
        queue.finish(taken, Finished("not_eligible" if reason else "segmented", reason), None, lambda _: None)
        assert (marker.mark_ended(), marker.mark_ended()) == (1, 0)
        states.append(json.loads(web.marks[study])["state"])
    assert states == ["not_eligible", "segmented"]


def test_a_study_has_the_label_of_its_latest_outcome_where_orthanc_has_labels(
    web: FakeOrthancServer, intake: OrthancIntake, database: Database, queue: JobQueue, store: Callable[..., str]
) -> None:
    study = store(new_study_uid())
    web.labels = {study: {"urgent", "glionode-failed"}}
    labels = []
    for settings in ({}, {}, {"labels": False}):
        marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5, **settings))
        taken = queue.start(intake.submit(study, SubmitOptions(again=True)).job)
        assert taken is not None
        queue.finish(taken, Finished("segmented" if labels else "not_eligible", None), None, lambda _: None)
        assert marker.mark_ended() == 1
        labels.append(sorted(web.labels[study]))
        if len(labels) == 2:
            web.labels[study].clear()
    assert labels == [["glionode-not-eligible", "urgent"], ["glionode-segmented", "urgent"], []]


def test_a_refused_mark_does_not_delay_others(
    web: FakeOrthancServer,
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.orthanc.outcome_marker._BATCH", 1)
    marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5))
    refused, other = (store(new_study_uid(), sop_class=SEG) for _ in range(2))
    for study in (refused, other):
        intake.submit(study, SubmitOptions())
    web.answers[f"PUT /studies/{refused}/metadata/4810"] = (400, {})
    assert [marker.mark_ended() for _ in range(3)] == [1, 1, 0]
    assert list(web.marks) == [other]
    web.answers.clear()
    monkeypatch.setattr("time.monotonic", lambda real=time.monotonic: real() + 3600)
    assert (marker.mark_ended(), sorted(web.marks)) == (1, sorted([refused, other]))


def test_marking_continues_when_orthanc_answers_again(
    web: FakeOrthancServer,
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.orthanc.outcome_marker._RETRY_AFTER_S", 0.01)
    study = store(new_study_uid(), sop_class=SEG)
    intake.submit(study, SubmitOptions())
    web.statuses = [503, 500, 401]
    stop = threading.Event()
    marker = OutcomeMarker(database.pool, OrthancSettings(url=web.url, timeout_s=5))
    thread = threading.Thread(target=marker.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: study in web.marks, "it is marked")
    finally:
        stop.set()
        thread.join(10)


def test_the_routes_require_the_token_and_report_errors(
    web: FakeOrthancServer,
    intake: OrthancIntake,
    database: Database,
    store: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = store(new_study_uid())
    settings = HttpSettings.model_validate({"enabled": True, "port": 0})
    app = make_app({}, CollectorRegistry(), orthanc_routes(intake, TOKEN))
    with http_server(settings, app) as url:

        def ask(path: str, method: str = "GET", token: str = TOKEN) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            request = urllib.request.Request(f"{url}/api/orthanc{path}", headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as exc:
                return exc.code, json.loads(exc.read())

        for path in ("/status", f"/studies/{study}"):
            assert ask(path, token="another")[0] == 401
        status, found = ask(f"/studies/{study}?urgent=true", "POST")
        assert (status, found["added"], found["state"]) == (202, True, "queued")
        assert ask(f"/studies/{study}")[1]["job"]["urgent"] is True
        said = ask("/status")[1]
        assert (said["jobs"]["queued"], said["database"]) == (1, database_id(database.pool))
        assert ask("/studies/1.2.3", "POST") == (404, {"detail": {"glionode": STUDY_UNKNOWN, "why": ANY}})
        assert ask(f"/studies/{'-'.join(['0' * 8] * 5)}")[0] == 404
        web.statuses = [500]
        assert ask(f"/studies/{study}", "POST")[0] == 503
        web.answers["POST /tools/lookup"] = (200, [{"ID": study, "Type": "Study"}] * 2)
        assert ask(f"/studies/{study}", "POST") == (409, {"detail": {"glionode": TWO_STUDIES, "why": ANY}})
        web.answers.clear()

        def lost(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr("plugin.orthanc.intake.describe_outcome", lost)
        monkeypatch.setattr("plugin.orthanc.intake.count_jobs_by_state", lost)
        monkeypatch.setattr(JobQueue, "add", lost)
        for path, method in ((f"/studies/{study}", "GET"), (f"/studies/{study}", "POST"), ("/status", "GET")):
            status, found = ask(path, method)
            assert (status, "database does not answer" in found["detail"]) == (503, True)
