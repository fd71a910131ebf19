"""Send results again: what is queued, what is left out and why, and how the command says so."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.database.audit_log import read_entries
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.job import Finished, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queue import JobQueue
from plugin.jobs.resend_rows import Resending
from plugin.node.operations import OperationRefused
from plugin.node.resend import ResendOutcome, ResendRequest, UnknownDestination, resend
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from tests.support.node import finish_job, new_study_uid, query, refusal, run

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
NEW = PACS.model_copy(update={"name": "new"})
OPEN = PACS.model_copy(update={"name": "open", "accepts_demonstration": True})


def settings_with(*destinations: DestinationSettings) -> Settings:
    return Settings(destinations=tuple(each.model_dump() for each in destinations))


class Results:
    """Makes jobs with a result of two objects, which the PACS has."""

    def __init__(self, database: Database, queue: JobQueue, folder: Path) -> None:
        self.database = database
        self.queue = queue
        self.folder = folder

    def make(
        self,
        study: str = "",
        use: IntendedUse = IntendedUse.RESEARCH,
        state: str = "sent",
        images: str = "1",
        destinations: tuple[DestinationSettings, ...] = (PACS,),
        hold: bool = False,
    ) -> str:
        """Return the key of a new job."""
        study = study or new_study_uid()
        job = new_job(study, [images], "m")
        made = [OutgoingObject(f"{study}.{images}.{number}", self.folder / f"{number}.dcm") for number in (1, 2)]
        finish_job(
            self.queue,
            job,
            Finished("segmented", None),
            self.folder,
            lambda connection: outbox.put(connection, job.key, made, destinations, use, hold),
        )
        if not hold:
            query(self.database, "UPDATE glionode_outbox SET state = %s WHERE state = 'queued'", state)
        query(self.database, "UPDATE glionode_outbox SET sent_at = now() WHERE state = 'sent' AND sent_at IS NULL")
        return job.key

    def states(self, key: str) -> dict[str, list[str]]:
        """Return the states of a job's deliveries by destination."""
        found: dict[str, list[str]] = {}
        rows = query(
            self.database,
            "SELECT destination, state FROM glionode_outbox WHERE job_key = %s ORDER BY destination, sop_instance_uid",
            key,
        )
        for name, state in rows:
            found.setdefault(name, []).append(state)
        return found

    def resend(self, name: str, *to: str, among: tuple[DestinationSettings, ...] = (PACS, NEW, OPEN)) -> ResendOutcome:
        return resend(settings_with(*among), self.database, ResendRequest(name, None, to))


@pytest.fixture
def results(database: Database, queue: JobQueue, tmp_path: Path) -> Results:
    return Results(database, queue, tmp_path)


@pytest.mark.parametrize("state", ["sent", "committed", "dead", "failed"])
def test_what_was_sent_or_given_up_is_queued_again(state: str, results: Results) -> None:
    key, other = results.make(state=state), results.make(state=state)
    query(
        results.database, "UPDATE glionode_outbox SET attempts = 5, ask_at = now(), next_try = now() + interval '1 h'"
    )
    found = results.resend(key)
    assert (found.jobs, found.queued) == ((key,), {"pacs": 2})
    assert results.states(key) == {"pacs": ["queued"] * 2}
    assert results.states(other) == {"pacs": [state] * 2}
    with results.database.pool.connection() as connection:
        due = outbox.due(connection, "pacs", 9)
        study = key.rpartition("-")[0]
        assert "sent again: 2 deliveries to pacs" in [each.detail for each in read_entries(connection, key, study)]
    assert [(each.attempts, each.created_at > datetime.now(UTC) - timedelta(hours=1)) for each in due] == [
        (0, True)
    ] * 2
    assert results.resend(key).left_out == {"waiting": 2}


def test_a_destination_that_is_new_gets_earlier_results(results: Results) -> None:
    old, recent, other = results.make(), results.make(), results.make(state="held")
    query(
        results.database,
        "UPDATE glionode_jobs SET finished_at = now() - interval '40 days' WHERE key = ANY(%s)",
        [old, other],
    )
    query(results.database, "UPDATE glionode_outbox SET sent_at = now() - interval '39 days' WHERE job_key = %s", old)
    request = ResendRequest("", datetime.now(UTC) - timedelta(days=30), ("new",))
    settings = settings_with(PACS, NEW)
    assert resend(settings, results.database, request, dry_run=True).queued == {"new": 2}
    assert results.states(recent) == {"pacs": ["sent"] * 2}, "a dry run changes nothing"
    found = resend(settings, results.database, request)
    assert (found.jobs, found.queued) == ((recent,), {"new": 2})
    assert results.states(recent) == {"new": ["queued"] * 2, "pacs": ["sent"] * 2}
    assert results.states(old) == {"pacs": ["sent"] * 2}
    with results.database.pool.connection() as connection:
        assert len(outbox.due(connection, "new", 9)) == 2


def test_what_is_held_withdrawn_or_refused_stays_so(results: Results) -> None:
    held = results.make(hold=True)
    assert results.resend(held).left_out == {"held": 2}
    found = results.resend(held, "new")
    assert (found.queued, found.left_out) == ({}, {"held": 2})
    assert results.states(held) == {"new": ["held"] * 2, "pacs": ["held"] * 2}, "one release is for all"
    withdrawn = results.make(state="withdrawn")
    assert results.resend(withdrawn, "pacs", "new").left_out == {"withdrawn": 4}
    assert results.states(withdrawn) == {"pacs": ["withdrawn"] * 2}
    refused = results.make(use=IntendedUse.DEMONSTRATION)
    found = results.resend(refused, "pacs", "new")
    assert (found.queued, found.left_out) == ({}, {"refused": 4})
    assert all("demonstration" in each for each in found.refused_by)
    assert results.states(refused) == {"pacs": ["refused"] * 2}
    assert results.resend(refused, "open").queued == {"open": 2}
    allowed = PACS.model_copy(update={"accepts_demonstration": True})
    assert results.resend(refused, among=(allowed, OPEN)).queued == {"pacs": 2}, "the settings allow it now"


def test_a_result_that_is_over_or_gone_is_refused_with_a_sentence(results: Results, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second = results.make(study), results.make(study, images="2")
    with pytest.raises(OperationRefused, match=f"superseded by job {second}"):
        results.resend(first)
    assert results.resend(study).jobs == (second,), "a study means its current result"
    unchanged = new_job(study, ["3"], "m")
    finish_job(queue, unchanged, Finished("unchanged", None))
    query(results.database, "UPDATE glionode_jobs SET same_as = %s WHERE key = %s", second, unchanged.key)
    query(results.database, "UPDATE glionode_outbox SET state = 'sent'")
    assert results.resend(unchanged.key).jobs == (second,)
    query(results.database, "UPDATE glionode_jobs SET purged_at = now(), results_path = NULL WHERE key = %s", second)
    with pytest.raises(OperationRefused, match=r"purged on .* sent to the node again"):
        results.resend(study)
    failed = new_job(new_study_uid(), ["1"], "m")
    finish_job(queue, failed, Finished("failed", "why"))
    with pytest.raises(OperationRefused, match="it is failed, and no result"):
        results.resend(failed.key)
    with pytest.raises(UnknownDestination, match=r"no destination 'gone'; they have: pacs, new, open\."):
        results.resend(second, "gone")
    request = ResendRequest("", datetime.now(UTC) - timedelta(days=30))
    found = resend(settings_with(NEW), results.database, request)
    assert found.queued == {}
    assert sorted(found.without_result.values()) == [1, 1], "one is superseded, one purged"
    gone = results.make()
    assert resend(settings_with(NEW), results.database, ResendRequest(gone)).not_in_settings == ("pacs",)


def test_a_result_that_was_sent_nowhere_is_given_to_a_destination(results: Results) -> None:
    key = results.make(destinations=())
    (results.folder / "1.dcm").write_bytes(b"content")
    report = {"roles": {}, "outputs": [{"path": "1.dcm", "sop_class_uid": "1.2", "sop_instance_uid": "1.9"}]}
    (results.folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(OperationRefused, match="for no destination; name one with --to"):
        results.resend(key)
    assert results.resend(key, "new").left_out == {"refused": 1}, "nobody knows what its model is for"
    assert results.resend(key, "open").queued == {"open": 1}
    ((sha256,),) = query(results.database, "SELECT sha256 FROM glionode_outbox WHERE job_key = %s", key)
    assert len(sha256) == 64


def test_what_was_made_again_with_other_content_is_sent_with_that(results: Results) -> None:
    key = results.make(state="queued")
    uid = f"{key.rpartition('-')[0]}.1.1"

    def put(sha256: str) -> None:
        with results.database.pool.connection() as connection:
            made = [OutgoingObject(uid, results.folder / "1.dcm", sha256)]
            outbox.put(connection, key, made, (PACS,), IntendedUse.RESEARCH)

    put("aa")
    with results.database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", uid, None, sha256="aa")
    put("bb")
    assert results.resend(key).queued == {"pacs": 1}
    with results.database.pool.connection() as connection:
        assert "bb" in {each.sha256 for each in outbox.due(connection, "pacs", 9)}


def test_the_command_counts_asks_and_says_what_is_left_out(results: Results, data_dir: Path) -> None:
    config = data_dir / "glionode.toml"
    config.write_text(
        f'[storage]\ndata_dir = "{data_dir / "data"}"\n[database]\nurl = "{results.database.url}"\n'
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 1\n'
    )
    key, held = results.make(), results.make(hold=True)
    for arguments in ([], [key, "--since", "3d"], ["--since", "soon"], [key, "--to", "gone"], ["9"]):
        assert run(config, "resend", *arguments)[0] == 64
    status, text = run(config, "resend", "--since", "3d", "--dry-run")
    assert (status, text.splitlines()[0]) == (0, "Would be queued: 2 deliveries of 1 jobs (2 to pacs).")
    status, text = refusal("resend", "--since", "3d", "--config", str(config))
    assert (status, "add --yes" in text) == (64, True)
    assert results.states(key) == {"pacs": ["sent"] * 2}
    status, text = run(config, "resend", "--since", "2020-01-31", "--yes", "--json")
    assert (status, json.loads(text)["queued"], json.loads(text)["left_out"]) == (0, {"pacs": 2}, {Resending.HELD: 2})
    status, text = run(config, "resend", held)
    assert (status, "Left out: 2 deliveries which are held; `glionode release JOB`" in text) == (1, True)
    query(results.database, "UPDATE glionode_outbox SET state = 'sent' WHERE state = 'queued'")
    assert run(config, "resend", key, "--to", "pacs")[1] == "Queued: 2 deliveries of 1 jobs (2 to pacs).\n"
