"""Read jobs for users: lists, details and counts. The answers contain UIDs, never text from a DICOM header."""

from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.rows import class_row, dict_row

from pipeline.errors import GlionodeError
from plugin.archive.report_reader import ChosenSeries, ReadReport, read_report
from plugin.database.audit_log import AuditEntry, read_entries
from plugin.database.pool import Connection
from plugin.jobs.job import JobState

_MOST_NAMED = 5


class NoSuchJob(GlionodeError):
    """No job, or more than one, matches a name."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """The main facts about a job. Times are ISO 8601 with offset."""

    key: str
    study_instance_uid: str
    state: str
    reason: str | None
    attempts: int
    image_count: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    urgent: bool
    """Whether it runs before jobs that are not urgent."""
    superseded_by: str | None
    """The key of the job that superseded it."""
    same_as: str | None
    """The key of the job whose result is still current, if this job is unchanged."""
    replacements: int
    """How often an image of the study had taken the place of another, when the job was made."""
    purged_at: str | None
    """When its images and results were purged."""
    objects: dict[str, int]
    """The number of deliveries (an object to a destination) by outbox state."""
    broken_off: list[str]
    """Objects that wait or were given up because a destination breaks the connection off with them: "UID to NAME"."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of an object to a destination."""

    destination: str
    state: str
    attempts: int
    last_error: str | None
    next_try: str
    sent_at: str | None
    committed_at: str | None
    """When the destination confirmed storage commitment; None if it has not, or if commitment is not requested."""
    asked_again_at: str | None
    """When storage commitment is requested next; None if it is not requested."""
    alone: bool = False
    """Whether it goes alone, after the others, because a connection broke off with it."""


@dataclass(frozen=True, slots=True)
class Output:
    """An object that a job produced."""

    file: str
    sop_class_uid: str | None
    """None if the report that names it is gone."""
    sop_instance_uid: str | None
    """None if there is no destination."""
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class JobDetail:
    """All facts about a job."""

    job: JobSummary
    model_sha256: str
    results_path: str | None
    supersedes: tuple[str, ...]
    """Keys of the jobs that it superseded, oldest first."""
    chosen: tuple[ChosenSeries, ...]
    outputs: tuple[Output, ...]
    audit: tuple[AuditEntry, ...]
    """The audit entries about the job and its study, oldest first."""
    remarks: tuple[str, ...] = ()
    """Sentences that go with the result."""


_SUMMARIES = """
SELECT j.*, coalesce((
    SELECT json_object_agg(state, n) FROM (
        SELECT state, count(*) AS n FROM glionode_outbox o WHERE o.job_key = j.key GROUP BY state ORDER BY state
    ) AS counted), '{}') AS objects, coalesce((
    SELECT json_agg(sop_instance_uid || ' to ' || destination ORDER BY 1) FROM glionode_outbox o
    WHERE o.job_key = j.key AND state IN ('failed', 'dead') AND to_jsonb(o) ->> 'alone' = 'true'), '[]') AS broken_off
FROM glionode_jobs j
"""
"""`to_jsonb` reads a column that a database of an older version lacks."""


def list_jobs(connection: Connection, state: JobState | None, limit: int) -> tuple[JobSummary, ...]:
    """Return the newest `limit` jobs (0: all), newest first; only those in `state` if it is given."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"{_SUMMARIES} WHERE %(state)s::text IS NULL OR state = %(state)s "
            "ORDER BY created_at DESC, key LIMIT %(limit)s",
            {"state": state, "limit": limit or None},
        )
        return tuple(JobSummary(**_values(JobSummary, row)) for row in cursor.fetchall())


def find_job_key(connection: Connection, name: str) -> str:
    """Return the key of the job that `name` means: a key, the beginning of exactly one key, or a study instance UID.

    A study instance UID means the study's newest job; a superseded job only if there is no other.

    Raises:
        NoSuchJob: no job, or more than one, matches.
    """
    rows = connection.execute(
        "SELECT key, study_instance_uid FROM glionode_jobs WHERE starts_with(key, %s) "
        "ORDER BY state = 'superseded', created_at DESC, key",
        (name,),
    ).fetchall()
    keys = [key for key, _ in rows]
    of_study = [key for key, study in rows if study == name]
    if name in keys:
        return name
    if of_study:
        return str(of_study[0])
    if not keys or not name:
        raise NoSuchJob(f"There is no job {name!r}; `glionode jobs` lists them.")
    if len(keys) > 1:
        some = ", ".join(keys[:_MOST_NAMED]) + (" ..." if len(keys) > _MOST_NAMED else "")
        raise NoSuchJob(f"{len(keys)} jobs begin with {name!r}: {some}. Give more characters of the key.")
    return str(keys[0])


def show_job(connection: Connection, name: str) -> JobDetail:
    """Return all facts about the job that `name` means (see find_job_key). Raises NoSuchJob."""
    key = find_job_key(connection, name)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"{_SUMMARIES} WHERE key = %s", (key,))
        row = cursor.fetchone()
        assert row is not None, "rows of jobs are never removed"
        cursor.execute(
            "SELECT * FROM glionode_outbox WHERE job_key = %s ORDER BY path, sop_instance_uid, destination", (key,)
        )
        rows = cursor.fetchall()
        cursor.execute("SELECT key FROM glionode_jobs WHERE superseded_by = %s ORDER BY created_at, key", (key,))
        supersedes = tuple(str(each["key"]) for each in cursor.fetchall())
    folder = row["results_path"]
    report = read_report(Path(folder)) if folder else ReadReport()
    classes = {each.file: each.sop_class_uid for each in report.written}
    entries = read_entries(connection, key, row["study_instance_uid"])
    summary, outputs = JobSummary(**_values(JobSummary, row)), _outputs(rows, classes)
    chosen, remarks = report.chosen, report.remarks
    return JobDetail(summary, row["model_sha256"], folder, supersedes, chosen, outputs, entries, remarks)


def _outputs(rows: list[dict[str, Any]], classes: dict[str, str]) -> tuple[Output, ...]:
    """Return the objects of the outbox rows, followed by those that only the report names."""
    sent: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        # A database of an older version lacks `alone`.
        delivery = Delivery(**_values(Delivery, {"alone": False, **row, "asked_again_at": row["ask_at"]}))
        sent.setdefault((Path(row["path"]).name, row["sop_instance_uid"]), []).append(delivery)
    known = {file for file, _ in sent}
    outputs = [Output(file, classes.get(file), uid, tuple(deliveries)) for (file, uid), deliveries in sent.items()]
    outputs += [Output(file, sop_class, None, ()) for file, sop_class in classes.items() if file not in known]
    return tuple(outputs)


def _values(record: type[JobSummary | Delivery], row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that are fields of `record`, with times in ISO 8601."""
    values = {field.name: row[field.name] for field in fields(record)}
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def count_jobs_by_state(connection: Connection) -> dict[str, int]:
    """Return the number of jobs in each state, including states without jobs."""
    rows = connection.execute("SELECT state, count(*) FROM glionode_jobs GROUP BY state").fetchall()
    return {state.value: 0 for state in JobState} | {str(state): int(count) for state, count in rows}


def count_urgent_jobs(connection: Connection) -> int:
    """Return the number of queued jobs that are urgent."""
    row = connection.execute("SELECT count(*) FROM glionode_jobs WHERE state = 'queued' AND urgent").fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class BrokenOffObject:
    """An object with which a destination breaks the connection off."""

    destination: str
    sop_instance_uid: str
    job: str
    attempts: int
    state: str
    """"failed" where it is tried again, "dead" where it was given up."""
    error: str | None


def list_broken_off(connection: Connection) -> tuple[BrokenOffObject, ...]:
    """Return the objects that wait, or were given up, because a connection broke off with them."""
    with connection.cursor(row_factory=class_row(BrokenOffObject)) as cursor:
        cursor.execute(
            "SELECT destination, sop_instance_uid, job_key AS job, attempts, state, last_error AS error "
            "FROM glionode_outbox o WHERE state IN ('failed', 'dead') AND to_jsonb(o) ->> 'alone' = 'true' "
            "ORDER BY destination, created_at, 2"
        )
        return tuple(cursor.fetchall())


def count_deliveries_by_state(connection: Connection) -> dict[str, dict[str, int]]:
    """Return the number of objects of each destination by outbox state, without states that have none."""
    rows = connection.execute(
        "SELECT destination, state, count(*) FROM glionode_outbox GROUP BY destination, state ORDER BY 1, 2"
    ).fetchall()
    counts: dict[str, dict[str, int]] = {}
    for destination, state, count in rows:
        counts.setdefault(str(destination), {})[str(state)] = int(count)
    return counts
