"""Show the names behind the hashes of cases on the terminal, from the table beside the key."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plugin.commands.terminal import complain, refusing

ShowNamesOption = Annotated[
    bool, typer.Option("--names", help="Print the site's own names of cases with their hashes, too.")
]
ReadKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        dir_okay=False,
        help="Key of the data set, beside which KEY.names.csv lies.",
        show_default="in the user's configuration folder",
    ),
]


def key_path(key: Path | None) -> Path:
    """Return the file of the key for pseudonyms: `key`, or the one in the user's configuration folder."""
    return key or Path(typer.get_app_dir("glionode")) / "dataset.key"


def name_cases(key: Path | None, case_ids: Sequence[str], all_names: bool) -> Callable[[str], str]:
    """Return what adds the names of cases to a sentence; those of the site only with `all_names`.

    Says so where `all_names` is asked for and the table has no name of the cases; ends the command if it is damaged.
    """
    from models.training.dataset.manifest import DatasetBroken
    from models.training.dataset.name_table import read_names, table_path

    where = key_path(key)
    with refusing(DatasetBroken):
        names = read_names(where)
    if all_names and not any(case in names.cases for case in case_ids):
        complain(
            f"{table_path(where)} names none of these cases. Give the key of the data set with --key, or make it again "
            "with --names."
        )
    return partial(names.explained, only_public=not all_names)
