"""The commands that change what a node does with its jobs: `glionode retry`, `cancel`, `force`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from plugin.cli_jobs import JobArgument, open_database
from plugin.cli_node import JsonOption
from plugin.cli_segment import ConfigOption
from plugin.terminal import FAILED, refuse


def add_order_commands(app: typer.Typer) -> None:
    """Register the commands with the command line."""
    app.command()(retry)
    app.command()(cancel)
    app.command()(force)


def retry(
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="Key of a job or its beginning, or the UID of a study.")
    ] = "",
    dead: Annotated[bool, typer.Option("--dead", help="Every delivery that was given up.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Every failed job, and deliveries that wait to be tried.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try again: a failed or cancelled job from the start, its failed and given-up deliveries at once.

    Tries are counted anew. A running node takes it up by itself, one that does not run at its next start. Exit status:
    0 something is tried again, 1 there was nothing to try, 64 no job is called so.
    """
    from plugin.job_view import NoSuchJob
    from plugin.orders import retry_all, retry_job

    if bool(job) == (dead or failed):
        raise refuse("Say which: a JOB, or --dead, --failed or both.")
    with open_database(config) as (_, database):
        try:
            done = retry_job(database, job) if job else retry_all(database, failed, dead)
        except NoSuchJob as exc:
            raise refuse(str(exc)) from exc
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        print(f"Tried again: {len(done.jobs)} jobs, {done.deliveries} deliveries.")
    if not done.jobs and not done.deliveries:
        raise typer.Exit(FAILED)


def cancel(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Cancel a job that waits or runs. What it would have made is not kept and not sent.

    The worker of a running job is ended at once and started anew for the next one. `glionode retry JOB` takes it up
    again. Exit status: 0 cancelled, 1 it is over already, 64 no job is called so.
    """
    from plugin.job_view import NoSuchJob
    from plugin.orders import cancel_job

    with open_database(config) as (_, database):
        try:
            key = cancel_job(database, job)
        except NoSuchJob as exc:
            raise refuse(str(exc)) from exc
    print(json.dumps({"job": key, "state": "cancelled"}) if as_json else f"Cancelled: {key}")


def force(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study instance UID.")],
    again: Annotated[bool, typer.Option("--again", help="Also if it was taken with the same images before.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a study of the archive now, with the images that it has, without waiting until it is quiet.

    With --again a study is segmented once more, after a change of rules or model, say. Objects that come out as before
    have the same UIDs and are not sent a second time. Exit status: 0 queued, 1 refused, with the reason.
    """
    from plugin.orders import force_study

    with open_database(config) as (settings, database):
        key = force_study(settings, database, study, again)
    print(json.dumps({"job": key, "state": "queued"}) if as_json else f"Queued: {key}")
