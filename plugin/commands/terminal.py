"""What the command line says to a person: sentences, progress, exit statuses. Decides nothing."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

WRONG_USAGE = 64
"""Exit status of a command that cannot do what it was asked (sysexits.h, EX_USAGE)."""
FAILED = 1
NOT_ELIGIBLE = 2


def complain(sentence: str) -> None:
    """A sentence on standard error, whole and without markup, however long."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)


def refuse(sentence: str, status: int = WRONG_USAGE) -> typer.Exit:
    """Say a sentence on standard error; raise what this returns."""
    complain(sentence)
    return typer.Exit(status)


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or wide enough for a UID where there is none; brackets in it are no markup."""
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table, markup=False)


class StepDisplay:
    """Shows the steps of long work: a progress bar on a terminal, one line a step elsewhere."""

    def __init__(self, steps: tuple[str, ...], bar: Progress | None) -> None:
        """Use `step_display` instead."""
        self._steps = steps
        self._bar = bar
        self._task = bar.add_task("", total=len(steps)) if bar else None
        self._title = ""
        self._started = time.perf_counter()

    def begin(self, title: str) -> None:
        """Start anew for the next piece of work, such as a study."""
        self._title = title
        self._started = time.perf_counter()
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=len(self._steps), description=title)

    def step(self, name: str) -> None:
        """One of the steps begins."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._steps.index(name), description=f"{self._title}: {name}")
            return
        sys.stderr.write(f"{self._title}: {name} ({time.perf_counter() - self._started:.1f} s)\n")
        sys.stderr.flush()


@contextmanager
def step_display(steps: tuple[str, ...]) -> Iterator[StepDisplay]:
    """A StepDisplay on standard error for as long as the block runs."""
    with progress_bar() as bar:
        yield StepDisplay(steps, bar)


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A bar on standard error for as long as the block runs; None where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        yield bar
