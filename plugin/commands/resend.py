"""The command that sends results again: `glionode resend`."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from plugin.commands.jobs import open_database
from plugin.commands.options import ConfigOption, JsonOption
from plugin.commands.terminal import FAILED, WRONG_USAGE, refuse, refusing

if TYPE_CHECKING:
    from plugin.node.resend import ResendOutcome


def resend(
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="Key of a job or its beginning, or the UID of a study.")
    ] = "",
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="DEST", help="Only to this destination, also if it never had them; repeatable."),
    ] = None,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="All results made or sent since then: 30d, 12h, 2026-01-31, or with T14:00."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before sending all since a time.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send results again to the destinations that they were for, or with --to to one that is new.

    What is held stays so until `glionode release`. What was withdrawn, a result that another one superseded, and what a
    destination may not receive are left out, and what was purged is gone: each is said, with its number. The audit
    records it. Exit status: 0 something is sent, 1 nothing, with the reason, 64 wrong usage.
    """
    from plugin.jobs.queries import NoSuchJob
    from plugin.node.operations import OperationRefused
    from plugin.node.resend import ResendRequest, UnknownDestination
    from plugin.node.resend import resend as send_again

    if bool(job) == bool(since):
        raise refuse("Give a JOB or a study, or --since TIME.")
    request = ResendRequest(job, _time(since) if since else None, tuple(to or ()))
    with (
        open_database(config) as (settings, database),
        refusing(NoSuchJob, UnknownDestination, status=WRONG_USAGE),
        refusing(OperationRefused),
    ):
        found = send_again(settings, database, request, dry_run=dry_run or bool(since))
        if since and not dry_run and found.queued:
            if not yes:
                _confirm(found)
            found = send_again(settings, database, request)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        for line in _lines(found, dry_run):
            print(line)
    if not found.queued:
        raise typer.Exit(FAILED)


def _confirm(found: "ResendOutcome") -> None:
    what = _count(found)
    if not sys.stdin.isatty():
        raise refuse(f"{what} would be sent; add --yes, or --dry-run to see which.", WRONG_USAGE)
    typer.confirm(f"Send {what} again?", abort=True)


def _count(found: "ResendOutcome") -> str:
    by_destination = ", ".join(f"{count} to {name}" for name, count in found.queued.items())
    return f"{sum(found.queued.values())} deliveries of {len(found.jobs)} jobs ({by_destination})"


def _lines(found: "ResendOutcome", dry_run: bool) -> Iterator[str]:
    if found.queued:
        yield f"{'Would be queued' if dry_run else 'Queued'}: {_count(found)}."
    else:
        yield "Queued: nothing."
    texts = {
        "waiting": "which wait already",
        "held": "which are held; `glionode release JOB` sends them",
        "withdrawn": "which were withdrawn and are never sent; `glionode show JOB` says why",
        "refused": "which the settings refuse",
    }
    for state, count in found.left_out.items():
        yield f"Left out: {count} deliveries {texts[state]}."
    for sentence in found.refused_by:
        yield f"Refused: {sentence}"
    for name in found.not_in_settings:
        yield f"Left out: {name} is not in the settings any more; --to gives its objects to another destination."
    for why, count in found.without_result.items():
        yield f"Left out: {count} jobs, because {why}."


def _time(text: str) -> datetime:
    """Return a time that is given as a span before now, or as a date, with or without a time of day, of this host."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text):
        hours = float(match[1]) * {"d": 24.0, "h": 1.0}[match[2]]
        return datetime.now().astimezone() - timedelta(hours=min(hours, 24.0 * 36500))
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise refuse(f"--since {text!r} is no time; write 30d, 12h, 2026-01-31 or 2026-01-31T14:00.") from exc
