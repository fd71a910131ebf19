"""The commands `glionode models ...`: list, show, verify, install and import model packages."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from models.labels import Role
from plugin.commands.options import ConfigOption, load_settings_or_exit
from plugin.commands.terminal import print_table, refusing, refusing_os_errors

if TYPE_CHECKING:
    from models.package import ModelPackage

models_app = typer.Typer(name="models", no_args_is_help=True, help="List, show, verify and install model packages.")
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
        use, channels = package.intended_use.value, _channels(package)
        table.add_row(package.name, package.version, use, channels, labels, str(package.folder))
    print_table(table)


@models_app.command()
def show(name: NameArgument, config: ConfigOption = None) -> None:
    """Print a package's model card: how it was trained, and what was measured.

    Where a study may lack some of the channels, a sentence before it says which, and what is still reported.
    """
    from models.package import CARD_FILE

    package = _find(name, config)
    card = package.folder / CARD_FILE
    with refusing_os_errors(f"{card} cannot be read"):
        text = card.read_text(encoding="utf-8")
    if package.optional:
        print(f"Channels: {_channels(package)}.")
        for label in package.labels:
            if label.inferred_from:
                print(f"The label {label.name} may be inferred from {', '.join(label.inferred_from)}.")
        print()
    print(text, end="")


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


@models_app.command("import-monai")
def import_monai(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", exists=True, file_okay=False, help="Folder of a MONAI bundle.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder of the model package to write.")],
    channel: Annotated[
        list[Role] | None,
        typer.Option(metavar="ROLE", help="An input channel, in the bundle's order; repeat for each."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An output label, in the bundle's order; repeat for each.")
    ] = None,
    spacing: Annotated[
        float, typer.Option(min=0.2, max=5, help="Edge length of the voxels it was trained on, mm.")
    ] = 1.0,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="name of OUT")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
) -> None:
    """Write the weights of a MONAI bundle with a SegResNet as the model package OUT, to be fine-tuned.

    Reads models/model.pt (weights only, no code), configs/metadata.json and the network in configs/*.json. Channels and
    labels must be given by name, because their order cannot be told from the shapes of the weights.

    Example: glionode models import-monai brats_mri_segmentation runs/brats --channel T1CE --channel T1 --channel T2
    --channel FLAIR --label TC --label WT --label ET
    """
    from models.package import PackageBroken
    from models.training.train.monai_bundle import BundleRefused, import_bundle, read_bundle

    with refusing(BundleRefused, PackageBroken), refusing_os_errors(f"{out} cannot be written"):
        name_and_version = name or out.name, version
        package = import_bundle(
            read_bundle(bundle), tuple(channel or ()), tuple(label or ()), spacing, name_and_version, out
        )
    print(f"Wrote model {package.name} {package.version} to {out} (weights sha256 {package.weights_sha256[:12]}...).")
    print(f"It was trained with another normalisation; fine-tune it with `glionode finetune` and `--from {out}`.")


def _installed(config: Path | None) -> Path:
    return load_settings_or_exit(config).installed_models_dir


def _find(name: str, config: Path | None) -> "ModelPackage":
    from models.package import PackageBroken, find_package

    with refusing(PackageBroken):
        return find_package(name, _installed(config))


def _channels(package: "ModelPackage") -> str:
    return ", ".join(f"{role} (optional)" if role in package.optional else role for role in package.channels)


def _summary(package: "ModelPackage") -> dict[str, object]:
    return {
        "name": package.name,
        "version": package.version,
        "intended_use": package.intended_use.value,
        "channels": list(package.channels),
        "optional": list(package.optional),
        "labels": [label.name for label in package.labels],
        "sha256": package.weights_sha256,
        "folder": str(package.folder),
    }
