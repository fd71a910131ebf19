"""Jobs as a person asks for them: a list, and one of them whole. Changes nothing, and shows no text of a header."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pipeline.errors import GlionodeError
from plugin.archive.report_reader import ChosenSeries, ReadReport, read_report
from plugin.database.audit_log import AuditEntry, entries_of
from plugin.jobs.job import JobState

_MOST_NAMED = 5

Connection = psycopg.Connection[Any]


class NoSuchJob(GlionodeError):
    """No job, or more than one, is called so."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a line. Times are ISO 8601 with offset."""

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
    """Whether it goes before those that are not."""
    superseded_by: str | None
    """The key of the job that took its place."""
    same_as: str | None
    """The key of the job whose result stands, where this one is unchanged."""
    purged_at: str | None
    """When its images and results were removed."""
    objects: dict[str, int]
    """Objects times destinations, by outbox state."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An object on its way to a destination."""

    destination: str
    state: str
    attempts: int
    last_error: str | None
    next_try: str
    sent_at: str | None
    committed_at: str | None
    """When the destination committed to keeping it; None where it has not, or is not asked."""
    asked_again_at: str | None
    """When it is asked, or asked again, to commit to it; None where nothing is asked."""


@dataclass(frozen=True, slots=True)
class Output:
    """An object that a job made."""

    file: str
    sop_class_uid: str | None
    """None where the report that would say it is gone."""
    sop_instance_uid: str | None
    """None where there is no destination."""
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job with all that is known of it."""

    job: JobLine
    model_sha256: str
    results_path: str | None
    supersedes: tuple[str, ...]
    """Keys of the jobs whose place it took, oldest first."""
    chosen: tuple[ChosenSeries, ...]
    outputs: tuple[Output, ...]
    audit: tuple[AuditEntry, ...]
    """What happened to it and to its study, oldest first."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


_LINES = """
SELECT j.*, coalesce((
    SELECT json_object_agg(state, n) FROM (
        SELECT state, count(*) AS n FROM glionode_outbox o WHERE o.job_key = j.key GROUP BY state ORDER BY state
    ) AS counted), '{}') AS objects
FROM glionode_jobs j
"""


def list_jobs(connection: Connection, state: JobState | None, limit: int) -> tuple[JobLine, ...]:
    """The newest `limit` jobs (0: all), newest first; only those in `state` if it is given."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"{_LINES} WHERE %(state)s::text IS NULL OR state = %(state)s "
            "ORDER BY created_at DESC, key LIMIT %(limit)s",
            {"state": state, "limit": limit or None},
        )
        return tuple(_line(row) for row in cursor.fetchall())


def find_key(connection: Connection, name: str) -> str:
    """The key of the job that `name` means: a key, a study UID, or the beginning of one key alone.

    Of a study it is the newest job, one whose place another took only where there is no other.

    Raises NoSuchJob.
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
        raise NoSuchJob(f"{len(keys)} jobs begin with {name!r}: {some}. Write more of the one that you mean.")
    return str(keys[0])


def show_job(connection: Connection, name: str) -> JobDetail:
    """All that is known of the job that `name` means (see find_key). Raises NoSuchJob."""
    key = find_key(connection, name)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"{_LINES} WHERE key = %s", (key,))
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
    entries = entries_of(connection, key, row["study_instance_uid"])
    return JobDetail(
        _line(row), row["model_sha256"], folder, supersedes, report.chosen, _outputs(rows, classes), entries
    )


def _outputs(rows: list[dict[str, Any]], classes: dict[str, str]) -> tuple[Output, ...]:
    """The objects of rows of the outbox, and those that only the report knows."""
    sent: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        delivery = Delivery(
            row["destination"],
            row["state"],
            row["attempts"],
            row["last_error"],
            row["next_try"].isoformat(timespec="seconds"),
            _iso(row["sent_at"]),
            _iso(row["committed_at"]),
            _iso(row["ask_at"]),
        )
        sent.setdefault((Path(row["path"]).name, row["sop_instance_uid"]), []).append(delivery)
    known = {file for file, _ in sent}
    outputs = [Output(file, classes.get(file), uid, tuple(deliveries)) for (file, uid), deliveries in sent.items()]
    outputs += [Output(file, sop_class, None, ()) for file, sop_class in classes.items() if file not in known]
    return tuple(outputs)


def _line(row: dict[str, Any]) -> JobLine:
    return JobLine(
        key=row["key"],
        study_instance_uid=row["study_instance_uid"],
        state=row["state"],
        reason=row["reason"],
        attempts=row["attempts"],
        image_count=row["image_count"],
        created_at=row["created_at"].isoformat(timespec="seconds"),
        started_at=_iso(row["started_at"]),
        finished_at=_iso(row["finished_at"]),
        urgent=row["urgent"],
        superseded_by=row["superseded_by"],
        same_as=row["same_as"],
        purged_at=_iso(row["purged_at"]),
        objects=row["objects"],
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None


def count_by_state(connection: psycopg.Connection) -> dict[str, int]:
    """How many jobs are in each state, all states."""
    rows = connection.execute("SELECT state, count(*) FROM glionode_jobs GROUP BY state").fetchall()
    return {state.value: 0 for state in JobState} | {str(state): int(count) for state, count in rows}
