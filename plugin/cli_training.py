"""The commands that train and evaluate: `glionode pretrain`, `glionode evaluate`. Imports torch only when one runs."""

import importlib.util
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from plugin.cli_evaluate import evaluate, this_command
from plugin.terminal import complain, refuse

if TYPE_CHECKING:
    from models.training.learner import PretrainSettings
    from models.training.pretrain import Progress as Trained


def add_training_commands(app: typer.Typer) -> None:
    """Register `pretrain` and `evaluate` with the command line."""
    app.command()(pretrain)
    app.command()(evaluate)


def pretrain(
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder of the model package to write.")],
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Train on synthetic heads (at present the only source).")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps at most.")] = 4000,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so many minutes; with --resume, 0 only writes what the checkpoint holds."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, heads and crops.")] = 1,
    patch: Annotated[int, typer.Option(min=16, help="Mean edge of a crop, voxels of 1.5 mm.")] = 96,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 1,
    init_filters: Annotated[int, typer.Option(min=8, help="Feature maps at full resolution, a multiple of 8.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of Adam.")] = 1e-3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for the network.")] = 1,
    tune_heads: Annotated[int, typer.Option(min=0, help="Heads for choosing thresholds at the end; 0: all 0.5.")] = 10,
    precision: Annotated[
        str, typer.Option(help="bf16-mixed, 32-true, or another that Lightning knows.")
    ] = "bf16-mixed",
    name: Annotated[str, typer.Option(help="Name of the model.")] = "phantom-demo",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    work: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for checkpoints and logs.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Checkpoint (last.ckpt) to go on from.")
    ] = None,
) -> None:
    """Train a network on synthetic heads and write it as the model package OUT.

    The heads are made while training runs; no data is needed and none is read. The package's intended use is
    "demonstration". Ctrl-C ends the run early and still writes the package; a run that was killed goes on with
    --resume. Without a GPU, 2 cores take 1 to 2 s a step.

    Example: glionode pretrain --synthetic --minutes 60 runs/my-demo
    """
    if not synthetic:
        raise refuse("Say what to train on: at present only --synthetic.")
    if importlib.util.find_spec("lightning") is None:
        raise refuse("Training needs Lightning, which is not installed here; install glionode[train].")
    from models.network import NetworkSettings
    from models.training.learner import PretrainSettings
    from models.training.pretrain import describe_package
    from models.training.pretrain import pretrain as train
    from models.training.samples import SampleSettings

    try:
        settings = PretrainSettings(
            steps=steps,
            minutes=minutes,
            seed=seed,
            learning_rate=learning_rate,
            threads=threads,
            precision=precision,
            tune_heads=tune_heads,
            network=NetworkSettings(init_filters=init_filters),
            samples=SampleSettings(patch=patch, batch=batch),
        )
    except ValueError as exc:
        raise refuse(f"These settings contradict each other: {exc}.") from exc
    with _training_display(settings) as display:
        package = train(
            describe_package(out, name, version, settings),
            settings,
            command=this_command(),
            work=work or Path("runs") / name,
            report=display.report,
            resume=resume,
        )
    print(f"Wrote model {package.name} {package.version} to {out} (weights sha256 {package.weights_sha256[:12]}...).")
    print(f"Measure it on heads that it never saw: glionode evaluate {shlex.quote(str(out))} --synthetic")


class _TrainingDisplay:
    """Shows how training goes: a bar on a terminal, a line at each report elsewhere."""

    def __init__(self, bar: Progress | None, steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("training", total=steps) if bar else None

    def report(self, now: "Trained") -> None:
        """A number of steps is done."""
        dice = " ".join(f"{value:.2f}" for value in now.dice)
        words = f"loss {now.loss:.3f}, soft Dice {dice}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=now.step, description=words)
        else:
            complain(f"step {now.step} of {now.steps}: {words} ({now.seconds / 60:.1f} min)")


@contextmanager
def _training_display(settings: "PretrainSettings") -> Iterator[_TrainingDisplay]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _TrainingDisplay(None, settings.steps)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        yield _TrainingDisplay(bar, settings.steps)
