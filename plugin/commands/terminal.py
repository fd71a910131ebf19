"""Output of the command line: error messages, tables, progress, and exit statuses."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

WRONG_USAGE = 64
"""Exit status of a command that was used in a wrong way (EX_USAGE of sysexits.h)."""
FAILED = 1
NOT_ELIGIBLE = 2


def complain(sentence: str) -> None:
    """Print a sentence to standard error, on one line however long, and without interpreting markup."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)


def refuse(sentence: str, status: int = WRONG_USAGE) -> typer.Exit:
    """Print a sentence to standard error and return the exception that ends the command; raise it."""
    complain(sentence)
    return typer.Exit(status)


@contextmanager
def refusing(*errors: type[Exception], status: int = FAILED) -> Iterator[None]:
    """End the command with the message of an error of these types and an exit status."""
    try:
        yield
    except errors as exc:
        raise refuse(str(exc), status) from exc


@contextmanager
def refusing_os_errors(failure: str) -> Iterator[None]:
    """End the command where the operating system refuses something: with `failure`, a clause, and the reason."""
    try:
        yield
    except OSError as exc:
        raise refuse(f"{failure}: {exc.strerror or exc}.", FAILED) from exc


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or wide enough for UIDs if there is none. Brackets are not markup."""
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table, markup=False)


class StepDisplay:
    """Shows the steps of long work: as a progress bar on a terminal, or as one line for each step."""

    def __init__(self, steps: tuple[str, ...], bar: Progress | None) -> None:
        """Use `step_display` instead of calling this."""
        self._steps = steps
        self._bar = bar
        self._task = bar.add_task("", total=len(steps)) if bar else None
        self._title = ""
        self._started = time.perf_counter()

    def begin(self, title: str) -> None:
        """Begin the next piece of work, such as a study."""
        self._title = title
        self._started = time.perf_counter()
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=len(self._steps), description=title)

    def step(self, name: str) -> None:
        """Show that a step begins."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._steps.index(name), description=f"{self._title}: {name}")
            return
        sys.stderr.write(f"{self._title}: {name} ({time.perf_counter() - self._started:.1f} s)\n")
        sys.stderr.flush()


@contextmanager
def step_display(steps: tuple[str, ...]) -> Iterator[StepDisplay]:
    """Show steps on standard error while the block runs."""
    with progress_bar() as bar:
        yield StepDisplay(steps, bar)


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Show a progress bar on standard error while the block runs; None if standard error is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        yield bar
