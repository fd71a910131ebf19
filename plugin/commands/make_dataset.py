"""Make a data set for `glionode dataset`: open the key, keep earlier splits, show progress, summarise the result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from plugin.commands.case_names import key_path
from plugin.commands.terminal import FAILED, complain, progress_bar

if TYPE_CHECKING:
    from models.labels import Role
    from models.training.dataset.manifest import DatasetSource, Split
    from models.training.dataset.pseudonyms import Pseudonyms
    from models.training.dataset.splits import Shares
    from models.training.dataset.writer import DatasetWriter, SkippedStudy

ReportProgress = Callable[[int, int], None]
"""Receives the number of studies done and the number of all studies."""
Convert = Callable[["DatasetWriter", ReportProgress], "tuple[SkippedStudy, ...]"]
"""Adds the studies of a source to a writer and returns those that it skipped."""


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """A data set that the user asked for."""

    out: Path
    source: "DatasetSource"
    channels: "tuple[Role, ...]"
    labels: tuple[str, ...]
    shares: "Shares"
    seed: int
    splits_from: Path | None
    """An earlier data set, whose patients keep their split."""
    key: Path | None
    """File of the key for pseudonyms; None for the one in the user's configuration folder."""
    names: bool
    """Whether to keep the names of the site's own cases, too, and not those of public data sets alone."""


def make_dataset(request: DatasetRequest, convert: Convert) -> None:
    """Write the data set and print a summary.

    The names of cases of public data sets, and with `names` those of all cases, go into the table beside the key.
    Raises DatasetBroken, and typer.Exit with status 1 if `convert` skipped a study.
    """
    from models.training.dataset.manifest import Split
    from models.training.dataset.name_table import CaseNames, add_names
    from models.training.dataset.pseudonyms import open_key
    from models.training.dataset.writer import DatasetWriter

    key = key_path(request.key)
    pseudonyms = open_key(key, request.out)
    known = _read_splits(request.splits_from, pseudonyms)
    writer = DatasetWriter(request.out, request.source, request.channels, request.labels, pseudonyms)
    with _show_progress() as report:
        skipped = convert(writer, report)
    names = CaseNames({case.case_id: case.source for case in writer.named})
    for each in skipped:
        complain(f"{each.where}: {names.explained(each.reason, only_public=False)}")
    for study, remark in writer.remarks:
        complain(f"Note on study {study}: {remark}")
    add_names(key, [case for case in writer.named if request.names or case.source.public])
    manifest = writer.finish(request.shares, request.seed, known)
    if known is not None and not any(case.patient in known for case in manifest.entries()):
        complain(f"None of the patients of {request.splits_from} is in this data set: --splits-from had no effect.")
    counts = ", ".join(f"{len(manifest.splits[split])} {split}" for split in Split)
    patients = len({case.patient for case in manifest.cases.values()})
    print(
        f"Wrote {len(manifest.cases)} cases of {patients} patients to {request.out} ({counts}); "
        f"{len(skipped)} studies skipped."
    )
    print(f"Check them: glionode dataset check {request.out}")
    if skipped:
        raise typer.Exit(FAILED)


def _read_splits(earlier: Path | None, pseudonyms: "Pseudonyms") -> "dict[str, Split] | None":
    """Return the split of each patient of an earlier data set. Raises DatasetBroken if its key is another one."""
    from models.training.dataset.manifest import DatasetBroken, read_manifest

    if earlier is None:
        return None
    manifest = read_manifest(earlier)
    if manifest.key != pseudonyms.fingerprint:
        raise DatasetBroken(
            f"{earlier} was made with another key, so its patients cannot be recognised and its test patients might be "
            "trained on. Give its key with --key."
        )
    return {case.patient: case.split for case in manifest.entries()}


@contextmanager
def _show_progress() -> Iterator[ReportProgress]:
    """Yield a function that updates a bar on a terminal, and prints a line after every tenth elsewhere."""
    with progress_bar() as bar:
        task = bar.add_task("studies") if bar else None

        def report(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total, description=f"study {done + 1} of {total}")
            elif done % max(1, total // 10) == 0:
                complain(f"study {done + 1} of {total}")

        yield report
