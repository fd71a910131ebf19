"""Arguments and options that the commands on models and data sets share. Imports torch only when one is used."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plugin.commands.terminal import refuse, refusing

if TYPE_CHECKING:
    import torch

    from models.package import ModelPackage
    from models.training.dataset.manifest import Split

ALL = "all"
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a package, or the name of a bundled one.")
]
SplitOption = Annotated[str, typer.Option(metavar="NAME", help="train, validation, test or all.")]
DeviceOption = Annotated[str, typer.Option(help="auto (a GPU where there is one), cuda or cpu.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads.")]


def find_model(model: str) -> "ModelPackage":
    """Return the package in a folder, or the bundled one of a name; refuse what is neither."""
    from models.package import PackageBroken, find_package, read_package

    with refusing(PackageBroken):
        return read_package(Path(model)) if Path(model).is_dir() else find_package(model, None)


def chosen_split(name: str) -> "Split | None":
    """Return the split of a name, None for all; refuse an unknown name."""
    from models.training.dataset.manifest import Split

    if name == ALL:
        return None
    try:
        return Split(name)
    except ValueError as exc:
        known = ", ".join(each.value for each in Split)
        raise refuse(f"Split {name!r} is unknown; choose one of {known} or {ALL}.") from exc


def chosen_device(name: str, threads: int) -> "torch.device":
    """Return the device of a name and set the number of CPU threads of this process; refuse an unknown name."""
    import torch

    from pipeline.segment import pick_device

    torch.set_num_threads(threads)
    try:
        return pick_device(name)
    except ValueError as exc:
        raise refuse(f"{exc}.") from exc


def this_command() -> str:
    """Return the command line of this process, every absolute path shortened to its name.

    It is written into reports, which leave this machine.
    """
    return shlex.join(["glionode", *(_without_folder(argument) for argument in sys.argv[1:])])


def _without_folder(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name if Path(value).is_absolute() else argument
