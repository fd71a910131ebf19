"""The commands that train and evaluate: `glionode pretrain`, `glionode evaluate`. Imports torch only when one runs."""

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from models.training.pretrain import Progress

WRONG_USAGE = 64
"""Exit status of a command that cannot do what it was asked (sysexits.h: EX_USAGE)."""


def _refuse(sentence: str) -> typer.Exit:
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)
    return typer.Exit(WRONG_USAGE)


def _need_training_extra() -> None:
    if importlib.util.find_spec("lightning") is None:
        raise _refuse("Training needs the Lightning package, which is not installed: pip install 'glionode[train]'.")


def add_training_commands(app: typer.Typer) -> None:
    """Register `pretrain` and `evaluate` with the command line."""
    app.command("pretrain")(pretrain)


def pretrain(
    out: Annotated[Path, typer.Argument(help="Folder of the model package to write.", show_default=False)],
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
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 2,
    init_filters: Annotated[int, typer.Option(min=8, help="Feature maps at full resolution, a multiple of 8.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of Adam.")] = 1.5e-3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for the network.")] = 1,
    precision: Annotated[str, typer.Option(help="bf16-mixed, 32-true, or another that Lightning knows.")] = "bf16-mixed",
    name: Annotated[str, typer.Option(help="Name of the model.")] = "phantom-demo",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints and logs.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint (last.ckpt) to go on from.", exists=True)] = None,
) -> None:
    """Train a network on synthetic heads and write it as a model package OUT.

    The heads are made while training runs; no data is needed and none is read. The package's intended use is
    "demonstration". Ctrl-C ends the run early and still writes the package. Needs the extra: pip install 'glionode[train]'.

    Example: glionode pretrain --synthetic --minutes 60 runs/my-demo
    """
    if not synthetic:
        raise _refuse("Say what to train on: at present only --synthetic.")
    _need_training_extra()
    from models.network import NetworkSettings
    from models.training.pretrain import PretrainSettings, describe_package
    from models.training.pretrain import pretrain as run
    from models.training.samples import SampleSettings

    try:
        settings = PretrainSettings(
            steps=steps,
            minutes=minutes,
            seed=seed,
            learning_rate=learning_rate,
            threads=threads,
            precision=precision,
            network=NetworkSettings(init_filters=init_filters),
            samples=SampleSettings(patch=patch, batch=batch),
        )
    except ValueError as exc:
        raise _refuse(f"These settings contradict each other: {exc}.") from exc
    package = run(
        describe_package(out, name, version, settings),
        settings,
        command=shlex.join(["glionode", *sys.argv[1:]]),
        work=work or Path("runs") / name,
        report=_print_progress,
        resume=resume,
    )
    print(f"Wrote model {package.name} {package.version} to {out} (weights sha256 {package.weights_sha256[:12]}...).")
    print(f"Evaluate it on heads that it never saw: glionode evaluate {shlex.quote(str(out))} --synthetic")


def _print_progress(progress: "Progress") -> None:
    dice = " ".join(f"{value:.2f}" for value in progress.dice)
    rate = progress.seconds / max(1, progress.step)
    print(
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  soft Dice {dice}  "
        f"{progress.seconds / 60:.1f} min ({rate:.2f} s a step)",
        flush=True,
    )
