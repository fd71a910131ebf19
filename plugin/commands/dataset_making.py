"""How both commands that make a data set go about it: key, earlier splits, progress, and what is told at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from plugin.commands.terminal import FAILED, complain

if TYPE_CHECKING:
    from models.labels import Role
    from models.training.dataset.manifest import DatasetSource, Manifest, Split
    from models.training.dataset.pseudonyms import Pseudonyms
    from models.training.dataset.splits import Shares
    from models.training.dataset.writer import DatasetWriter, SkippedStudy

Report = Callable[[int, int], None]
"""Told how many of how many cases are done."""


@dataclass(frozen=True, slots=True)
class Making:
    """A data set that is wanted."""

    out: Path
    source: "DatasetSource"
    channels: "tuple[Role, ...]"
    labels: tuple[str, ...]
    shares: "Shares"
    seed: int
    splits_from: Path | None
    """An earlier data set, whose patients keep their share."""
    key: Path | None
    """None: the one in the user's configuration folder."""

    def run(self, convert: Callable[["DatasetWriter", Report], "tuple[SkippedStudy, ...]"]) -> None:
        """Write what `convert` adds and tell of it. Raises DatasetBroken; exits with 1 where something was left out."""
        from models.training.dataset.writer import DatasetWriter

        names = _names(self.key, self.out)
        known = _known(self.splits_from, names)
        writer = DatasetWriter(self.out, self.source, self.channels, self.labels, names)
        with _progress() as report:
            skipped = convert(writer, report)
        for each in skipped:
            complain(f"{each.where}: {each.reason}")
        manifest = writer.finish(self.shares, self.seed, known)
        _tell_if_strangers(manifest, known, self.splits_from)
        _tell(manifest, self.out, skipped)


def _names(key: Path | None, out: Path) -> "Pseudonyms":
    from models.training.dataset.pseudonyms import open_key

    return open_key(key or Path(typer.get_app_dir("glionode")) / "dataset.key", out)


def _known(earlier: Path | None, names: "Pseudonyms") -> "dict[str, Split] | None":
    """The shares of an earlier data set's patients. Raises DatasetBroken where they have other names there."""
    from models.training.dataset.manifest import DatasetBroken, read_manifest

    if earlier is None:
        return None
    manifest = read_manifest(earlier)
    if manifest.key != names.fingerprint:
        raise DatasetBroken(
            f"{earlier} was made with another key, so nobody in it can be known again: its test patients might be "
            "trained on. Give its key with --key."
        )
    return {case.patient: case.split for case in manifest.cases}


def _tell_if_strangers(manifest: "Manifest", known: "dict[str, Split] | None", earlier: Path | None) -> None:
    if known is not None and not any(case.patient in known for case in manifest.cases):
        complain(f"None of the patients of {earlier} is among these: --splits-from changed nothing.")


def _tell(manifest: "Manifest", out: Path, skipped: "tuple[SkippedStudy, ...]") -> None:
    from models.training.dataset.manifest import Split

    counts = ", ".join(f"{sum(case.split is split for case in manifest.cases)} {split.value}" for split in Split)
    print(f"Wrote {len(manifest.cases)} cases to {out} ({counts}); {len(skipped)} left out.")
    print(f"Look at them: glionode dataset check {out}")
    if skipped:
        raise typer.Exit(FAILED)


@contextmanager
def _progress() -> Iterator[Report]:
    """Told how many of how many cases are done: a bar on a terminal, a line every tenth elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(done: int, of: int) -> None:
            if done % max(1, of // 10) == 0:
                complain(f"case {done + 1} of {of}")

        yield line
        return
    columns = (TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("cases")
        yield lambda done, of: bar.update(task, completed=done, total=of)
