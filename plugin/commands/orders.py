"""The commands that change what a node does with its jobs: `glionode retry`, `cancel`, `force`, `purge`."""

import json
import re
import time
from dataclasses import asdict
from typing import Annotated

import typer

from plugin.commands.jobs import JobArgument, open_database
from plugin.commands.node import JsonOption
from plugin.commands.segment import ConfigOption
from plugin.commands.terminal import FAILED, refuse


def add_order_commands(app: typer.Typer) -> None:
    """Register the commands with the command line."""
    app.command()(retry)
    app.command()(cancel)
    app.command()(force)
    app.command()(purge)


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
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import retry_all, retry_job

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
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import cancel_job

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
    from plugin.node.operations import force_study

    with open_database(config) as (settings, database):
        key = force_study(settings, database, study, again)
    print(json.dumps({"job": key, "state": "queued"}) if as_json else f"Queued: {key}")


def purge(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="Only these, failed and undelivered ones, too.")
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="D", help="Only what has been over for this long: 30d, 12h.", show_default="0d")
    ] = "0d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove received images and results of studies that are over and whose every result is delivered.

    What waits, runs, failed, or was sent nowhere stays, unless its study is named; a job that waits or runs is to be
    cancelled first. `glionode show` tells of purged jobs as before. Exit status: 0 done, 1 a named study stays, 64
    wrong usage.
    """
    from plugin.archive.store import is_uid
    from plugin.retention.purge import KeptStudy, PurgedStudy, Purger

    older_than_s = _seconds(older_than)
    if studies and older_than_s:
        raise refuse("Name studies or say --older-than, not both.")
    if wrong := [study for study in studies or () if not is_uid(study)]:
        raise refuse(f"{wrong[0]!r} is no study UID.")
    with open_database(config) as (settings, database):
        purger = Purger(settings.data_dir, database.pool)
        purger.clear_leftovers()
        outcomes = (
            [purger.purge_named(study, dry_run) for study in studies]
            if studies
            else [purger.purge(study, time.time(), older_than_s, dry_run) for study in purger.studies()]
        )
    purged = [each for each in outcomes if isinstance(each, PurgedStudy)]
    kept = [each for each in outcomes if isinstance(each, KeptStudy)]
    if as_json:
        print(json.dumps({"purged": [asdict(e) for e in purged], "kept": [asdict(e) for e in kept]}, indent=1))
    else:
        for study in purged:
            print(f"{study.study_instance_uid}: {study.files} files, {study.freed_bytes / 1e6:.1f} MB")
        for stays in kept:
            print(f"{stays.study_instance_uid}: stays, {stays.why}")
        freed = sum(study.freed_bytes for study in purged) / 1e6
        print(f"{'Would free' if dry_run else 'Freed'} {freed:.1f} MB of {len(purged)} studies; {len(kept)} stay.")
    if studies and kept:
        raise typer.Exit(FAILED)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text)
    if not match:
        raise refuse(f"--older-than {text!r} is no time; write 30d for days or 12h for hours.")
    return float(match[1]) * {"d": 86400.0, "h": 3600.0}[match[2]]
