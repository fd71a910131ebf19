"""The commands `glionode models ...`: list, show, verify and install model packages."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from plugin.commands.import_monai import import_monai
from plugin.commands.options import ConfigOption, load_settings_or_exit
from plugin.commands.terminal import print_table, refusing, refusing_os_errors

if TYPE_CHECKING:
    from models.package import ModelPackage

models_app = typer.Typer(name="models", no_args_is_help=True, help="List, show, verify and install model packages.")
models_app.command("import-monai")(import_monai)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a package, see `glionode models list`.")]


@models_app.command("list")
def list_models(
    config: ConfigOption = None, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """List the packages: installed ones first, then bundled ones."""
    from models.package import PackageBroken, list_packages

    with refusing(PackageBroken):
        packages = list_packages(_installed(config))
    if as_json:
        print(json.dumps([_summary(package) for package in packages], indent=1))
        return
    table = Table("Name", "Version", "Intended use", "Channels", "Labels", "Folder")
    for package in packages:
        labels = ", ".join(label.name for label in package.labels)
        use, channels = package.intended_use.value, ", ".join(package.channels)
        table.add_row(package.name, package.version, use, channels, labels, str(package.folder))
    print_table(table)


@models_app.command()
def show(name: NameArgument, config: ConfigOption = None) -> None:
    """Print a package's model card: how it was trained, and what was measured."""
    from models.package import CARD_FILE

    card = _find(name, config).folder / CARD_FILE
    with refusing_os_errors(f"{card} cannot be read"):
        print(card.read_text(encoding="utf-8"), end="")


@models_app.command()
def verify(name: NameArgument, config: ConfigOption = None) -> None:
    """Verify a package: weights match their sha256 and the network of model.toml, and all are finite."""
    from models.install import verify_package
    from models.package import PackageBroken

    package = _find(name, config)
    with refusing(PackageBroken):
        verify_package(package)
    print(f"{package.name} {package.version}: weights match sha256 {package.weights_sha256} and fit the network.")


@models_app.command()
def install(
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, file_okay=False, help="Folder of a package.")],
    config: ConfigOption = None,
) -> None:
    """Verify the package in PATH and copy it to the node's folder of installed models.

    To serve it, set `name` under [model] in the settings file.
    """
    from models.install import install_package
    from models.package import PackageBroken

    with refusing(PackageBroken), refusing_os_errors(f"{path} cannot be installed"):
        package = install_package(path, _installed(config))
    print(f"{package.name} {package.version} is installed in {package.folder}.")


def _installed(config: Path | None) -> Path:
    return load_settings_or_exit(config).installed_models_dir


def _find(name: str, config: Path | None) -> "ModelPackage":
    from models.package import PackageBroken, find_package

    with refusing(PackageBroken):
        return find_package(name, _installed(config))


def _summary(package: "ModelPackage") -> dict[str, object]:
    return {
        "name": package.name,
        "version": package.version,
        "intended_use": package.intended_use.value,
        "channels": list(package.channels),
        "labels": [label.name for label in package.labels],
        "sha256": package.weights_sha256,
        "folder": str(package.folder),
    }
