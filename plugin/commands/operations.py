"""The commands that change jobs and studies: `glionode retry`, `cancel`, `force`, `purge`."""

import json
import re
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from plugin.commands.jobs import JobArgument, open_database
from plugin.commands.options import ConfigOption, JsonOption
from plugin.commands.terminal import FAILED, WRONG_USAGE, refuse, refusing

if TYPE_CHECKING:
    from plugin.retention.purge import KeptStudy, PurgedStudy


def retry(
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="Key of a job or its beginning, or the UID of a study.")
    ] = "",
    dead: Annotated[bool, typer.Option("--dead", help="Retry all deliveries that were given up.")] = False,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Retry all failed jobs, and failed deliveries that wait for a retry."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retry a failed or cancelled job from the start, and its failed and given-up deliveries at once.

    Attempts are counted from zero again. A running node does this by itself, one that does not run at its next start.
    Exit status: 0 something is retried, 1 there was nothing to retry, 64 no job matches.
    """
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import retry_all, retry_job

    if bool(job) == (dead or failed):
        raise refuse("Give a JOB, or --dead, --failed or both.")
    with open_database(config) as (_, database), refusing(NoSuchJob, status=WRONG_USAGE):
        done = retry_job(database, job) if job else retry_all(database, failed, dead)
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        print(f"Retried: {len(done.jobs)} jobs, {done.deliveries} deliveries.")
    if not done.jobs and not done.deliveries:
        raise typer.Exit(FAILED)


def cancel(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Cancel a queued or running job. Its results are neither kept nor sent.

    The worker of a running job is killed and restarted for the next job. `glionode retry JOB` queues the job again.
    Exit status: 0 cancelled, 1 the job is in a final state, 64 no job matches.
    """
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import cancel_job

    with open_database(config) as (_, database), refusing(NoSuchJob, status=WRONG_USAGE):
        key = cancel_job(database, job)
    print(json.dumps({"job": key, "state": "cancelled"}) if as_json else f"Cancelled: {key}")


def release(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send an empty result that was held back for review (`hold_empty` under `[delivery]`).

    The audit records it. Exit status: 0 released, 1 nothing of the job is held, 64 no job matches.
    """
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import release_job

    with open_database(config) as (_, database), refusing(NoSuchJob, status=WRONG_USAGE):
        key, deliveries = release_job(database, job)
    print(
        json.dumps({"job": key, "deliveries": deliveries}) if as_json else f"Released: {key}, {deliveries} deliveries"
    )


def force(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study instance UID.")],
    again: Annotated[bool, typer.Option("--again", help="Also if it had a job with the same images before.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a study with the images that the archive has now, without waiting until it is complete.

    With --again, a study is segmented once more, for example after a change of rules or model: a new analysis, whose
    objects have UIDs of their own and whose reports name the earlier ones as predecessors. The earlier result stays
    until there is a new one; what was not sent of it by then is withdrawn. Exit status: 0 queued, 1 refused, with the
    reason.
    """
    from plugin.node.operations import deliveries_of, force_study

    with open_database(config) as (settings, database):
        before = deliveries_of(database, study)  # before the new result may be there
        key = force_study(settings, database, study, again)
    if as_json:
        print(json.dumps({"job": key, "state": "queued", "deliveries_before": asdict(before)}))
        return
    print(f"Queued: {key}")
    if before.stored:
        print(
            f"Superseded: {before.stored} deliveries that destinations have. The objects of the new result have UIDs "
            "of their own and are sent beside those; its reports name the earlier ones as predecessors."
        )
    if before.waiting or before.given_up:
        print(
            f"Sent until the new result is complete, then withdrawn: {before.waiting} deliveries that wait and "
            f"{before.given_up} that were given up."
        )


def purge(
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY]...", help="Only these, even if failed or not delivered."),
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="D", help="Only studies that ended this long ago: 30d, 12h.", show_default="0d")
    ] = "0d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask where a named study has undelivered results.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove images and results of studies whose jobs ended and whose results were all delivered.

    Studies that failed or whose results were sent nowhere are kept, unless they are named. Where a named one has
    deliveries that were not made, the command says how many and asks, or wants --yes. Studies with queued or running
    jobs are always kept; cancel the jobs first. `glionode show` still shows purged jobs. Exit status: 0 done,
    1 a named study was kept, 64 wrong usage.
    """
    from plugin.archive.store import is_uid
    from plugin.retention.purge import KeptStudy, PurgedStudy, Purger

    older_than_s = _seconds(older_than)
    if studies and older_than_s:
        raise refuse("Name studies or give --older-than, not both.")
    if wrong := [study for study in studies or () if not is_uid(study)]:
        raise refuse(f"{wrong[0]!r} is not a study instance UID.")
    with open_database(config) as (settings, database):
        purger = Purger(settings.data_dir, database.pool)
        purger.finish_interrupted()
        if studies and not dry_run and not yes:
            _ask_for_undelivered([purger.purge_requested(study, dry_run=True) for study in studies])
        outcomes = (
            [purger.purge_requested(study, dry_run) for study in studies]
            if studies
            else [purger.purge(study, time.time(), older_than_s, dry_run) for study in purger.studies()]
        )
    purged = [each for each in outcomes if isinstance(each, PurgedStudy)]
    kept = [each for each in outcomes if isinstance(each, KeptStudy)]
    if as_json:
        print(json.dumps({"purged": [asdict(e) for e in purged], "kept": [asdict(e) for e in kept]}, indent=1))
    else:
        for study in purged:
            dropped = f", {study.undelivered} deliveries dropped" if study.undelivered else ""
            print(f"{study.study_instance_uid}: {study.files} files, {study.freed_bytes / 1e6:.1f} MB{dropped}")
        for each in kept:
            print(f"{each.study_instance_uid}: kept, {each.why}")
        freed = sum(study.freed_bytes for study in purged) / 1e6
        print(f"{'Would free' if dry_run else 'Freed'} {freed:.1f} MB of {len(purged)} studies; {len(kept)} kept.")
    if studies and kept:
        raise typer.Exit(FAILED)


def _ask_for_undelivered(outcomes: "list[PurgedStudy | KeptStudy]") -> None:
    undelivered = sum(getattr(each, "undelivered", 0) for each in outcomes)
    if not undelivered:
        return
    what = f"{undelivered} deliveries of these studies were not made, and are lost with them"
    if not sys.stdin.isatty():
        raise refuse(f"{what}; `glionode show STUDY` lists them, --yes drops them.", WRONG_USAGE)
    typer.confirm(f"{what}. Go on?", abort=True)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text)
    if not match:
        raise refuse(f"--older-than {text!r} is not a time; write 30d for days or 12h for hours.")
    return float(match[1]) * {"d": 86400.0, "h": 3600.0}[match[2]]
