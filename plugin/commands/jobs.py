"""The commands that show jobs: `glionode jobs`, `show`. They work with a running node and without one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption, JsonOption, load_settings_or_exit
from plugin.commands.terminal import FAILED, WRONG_USAGE, print_table, refuse, refusing
from plugin.jobs.job import JobState

if TYPE_CHECKING:
    from plugin.database.pool import Database
    from plugin.jobs.queries import Delivery, JobDetail, JobSummary
    from plugin.settings.sections import Settings

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Key of a job or its beginning, or a study instance UID: its newest job.")
]


def jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="The most jobs to list, newest first; 0: all.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the jobs of the node, newest first. A job is one set of images of a study, and its outcome.

    If the node does not run, its database is started for a moment. Exit status: 0 listed, 1 there is no database, 64
    wrong usage.
    """
    from plugin.jobs.queries import list_jobs

    with open_database(config, reading=True) as (_, database), database.pool.connection() as connection:
        found = list_jobs(connection, state, limit)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1))
        return
    print_table(_jobs_table(found))
    if limit and len(found) == limit:
        print(f"The newest {limit}; --limit 0 lists all.")


def show(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one job: state, reason, attempts, times, the chosen series, remarks, and each object with its deliveries.

    The output has UIDs, and no text from DICOM headers. Exit status: 0 shown, 1 there is no database, 64 no job or
    several jobs match.
    """
    from plugin.jobs.queries import NoSuchJob, show_job

    with (
        open_database(config, reading=True) as (_, database),
        database.pool.connection() as connection,
        refusing(NoSuchJob, status=WRONG_USAGE),
    ):
        found = show_job(connection, job)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        _print_job(found)


@contextmanager
def open_database(config: Path | None, reading: bool = False) -> "Iterator[tuple[Settings, Database]]":
    """Open the database of the node of these settings, or end the command with a sentence if there is none.

    The embedded database of a node that does not run is started for the block, under the node's lock, so that no node
    starts meanwhile. Its tables stay as they are: with `reading`, an older version may have made them; without, they
    must be those of this version.
    """
    from plugin.database.embedded_postgres import has_cluster
    from plugin.database.pool import Database, database_url, open_pool, running_database
    from plugin.database.schema import readable_schema, usable_schema
    from plugin.node.lock import node_lock, running_node

    settings = load_settings_or_exit(config)
    fitting_schema = readable_schema if reading else usable_schema
    with refusing(GlionodeError):
        if settings.database.url or running_node(settings.data_dir) is not None:
            with open_pool(database_url(settings)) as pool, fitting_schema(pool):
                yield settings, Database(database_url(settings), pool, embedded=not settings.database.url)
        elif has_cluster(settings.data_dir):
            with (
                node_lock(settings.data_dir),
                running_database(settings) as database,
                fitting_schema(database.pool),
            ):
                yield settings, database
        else:
            raise refuse(f"No node has run on {settings.data_dir} yet, so it has no jobs.", FAILED)


def _jobs_table(found: "tuple[JobSummary, ...]") -> Table:
    table = Table("Job", "State", "Images", "Attempts", "Queued", "Ended", "Objects", "Reason")
    for each in found:
        table.add_row(
            each.key,
            f"{each.state}, urgent" if each.urgent else each.state,
            _text(each.image_count),
            str(each.attempts),
            each.created_at,
            _text(each.finished_at),
            ", ".join(f"{count} {state}" for state, count in each.objects.items()),
            "; ".join([*([each.reason] if each.reason else []), *(f"broken off: {one}" for one in each.broken_off)]),
        )
    return table


def _print_job(found: "JobDetail") -> None:
    job = found.job
    print(f"Job: {job.key}")
    print(f"Study: {job.study_instance_uid}, {_text(job.image_count) or 'unknown number of'} images")
    print(f"State: {job.state}{f' ({job.reason})' if job.reason else ''}")
    for line in _remarkable(job):
        print(line)
    if job.superseded_by:
        print(f"Superseded by: {job.superseded_by}")
    for key in found.supersedes:
        print(f"Supersedes: {key}")
    if job.same_as:
        print(f"Same result as: {job.same_as}")
    print(f"Attempts: {job.attempts}")
    print(f"Queued: {job.created_at}; started: {job.started_at or 'not yet'}; ended: {job.finished_at or 'not yet'}")
    print(f"Model: sha256 {found.model_sha256}")
    for series in found.chosen:
        print(f"{series.role}: series {series.series_instance_uid}")
    for remark in found.remarks:
        print(f"Remark: {remark}")
    if job.purged_at:
        print(f"Purged: {job.purged_at}, images and results")
    if found.results_path:
        print(f"Results: {found.results_path}")
    for entry in found.audit:
        peer = f" ({entry.peer_ae_title} at {entry.peer_address})" if entry.peer_address else ""
        print(f"{entry.at} {entry.what}{peer}: {entry.detail}")
    if not found.outputs:
        return
    table = Table("Object", "SOP instance UID", "Destination", "State", "Attempts", "Sent", "Committed", "Last error")
    for output in found.outputs:
        for delivery in output.deliveries or (None,):
            table.add_row(output.file, _text(output.sop_instance_uid), *_delivery(delivery))
    print_table(table)


def _remarkable(job: "JobSummary") -> Iterator[str]:
    if job.urgent:
        yield "Urgent: yes"
    if job.replacements:
        yield f"Replaced images: {job.replacements}; `glionode replacements {job.study_instance_uid}` lists them"


def _delivery(delivery: "Delivery | None") -> tuple[str, ...]:
    if delivery is None:
        return ("none", "", "", "", "", "")
    return (
        delivery.destination,
        delivery.state,
        str(delivery.attempts),
        _text(delivery.sent_at),
        _text(delivery.committed_at) or ("pending" if delivery.asked_again_at else ""),
        _text(delivery.last_error),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)
