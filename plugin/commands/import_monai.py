"""The command `glionode models import-monai`: turn the weights of a MONAI bundle into a package to fine-tune."""

from pathlib import Path
from typing import Annotated

import typer

from models.labels import Role
from plugin.commands.terminal import refusing, refusing_os_errors


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
