"""The command `glionode adopt`: take over what the database lost and the disk still has."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from plugin.commands.jobs import open_database
from plugin.commands.options import ConfigOption, JsonOption
from plugin.commands.terminal import WRONG_USAGE, refuse

if TYPE_CHECKING:
    from plugin.node.adopt import AdoptedStudy
    from plugin.settings.sections import Settings


def adopt(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="Only these; without any, all that wait.")
    ] = None,
    deliver: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|none|DEST",
            help="Destinations to which results are sent again; may be repeated. The others are taken to have them.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what was found, and change nothing.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over studies that are on the disk and that the database does not know.

    After the loss of the database, or the restore of an older one, the node takes new studies, and neither computes nor
    sends those that were there before. Their results are found again by this command rather than computed, with the
    UIDs and bytes that they had; a study without a result is taken as if it had just come, and a damaged result is
    computed again with its UIDs. With --deliver none, a destination that commits to storage is asked whether it has
    each object, and gets what it does not have. Exit status: 0 done, also where nothing waits; 64 wrong usage.
    """
    from plugin.node.adopt import adopt_studies

    if deliver is None and not dry_run:
        raise refuse(
            "Say who gets the results again: --deliver none where the destinations have them, --deliver all, or "
            "--deliver DEST. `glionode adopt --dry-run` shows what was found.",
            WRONG_USAGE,
        )
    with open_database(config) as (settings, database):
        deliver_to = _destinations(settings, deliver or [])
        found = adopt_studies(settings, database, studies or (), deliver_to, dry_run)
    if as_json:
        print(json.dumps([asdict(study) for study in found], indent=1))
        return
    for study in found:
        _print_study(study)
    whole = sum(result.problem is None for study in found for result in study.results)
    without = sum(not any(result.job for result in study.results) for study in found)
    print(
        f"{'Found' if dry_run else 'Adopted'}: {whole} results of {len(found)} studies; {without} studies have no "
        "result and are segmented as if they had just come."
    )


def _destinations(settings: "Settings", deliver: list[str]) -> frozenset[str]:
    known = frozenset(each.name for each in settings.destinations)
    if "none" in deliver and len(deliver) > 1:
        raise refuse("--deliver none goes with no other destination.", WRONG_USAGE)
    chosen = known if "all" in deliver else frozenset(deliver) - {"none"}
    if wrong := sorted(chosen - known):
        raise refuse(
            f"The settings have no destination {wrong[0]!r}; they have: {', '.join(sorted(known)) or 'none'}.",
            WRONG_USAGE,
        )
    return chosen


def _print_study(study: "AdoptedStudy") -> None:
    if not study.results:
        print(f"{study.study_instance_uid}: {study.images} images, no result")
    for result in study.results:
        problem = f"; {result.problem}" if result.problem else ""
        began = f" of {result.started}" if result.started else ""
        name = result.job or result.folder
        print(f"{study.study_instance_uid}: {result.status}{began}, {result.objects} objects, {name}{problem}")
