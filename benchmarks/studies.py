"""Make what benchmarks measure: a phantom or a small head, copies under other UIDs, and a small model."""

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import generate_uid

from models.labels import Role
from pipeline.volume import Volume
from tests.support.programs import GLIONODE

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def dicom_folder(study: Path) -> Path:
    """Return the folder `dicom` of a phantom, or the folder itself."""
    return study / "dicom" if (study / "dicom").is_dir() else study


def write_study(out: Path, small: bool) -> Path:
    """Write a phantom, or with `small` three coarse series of a head, to the empty folder `out`; return its folder."""
    if not small:
        subprocess.run([*GLIONODE, "phantom", str(out)], check=True, stdout=subprocess.DEVNULL)
        return out / "dicom"
    from models.training.synthetic.head import synthesise
    from models.training.synthetic.tumour import Variant
    from tests.support.annotated_study import moved, write_study

    motions = {Role.FLAIR: moved(3, (2, -1, 3)), Role.ADC: moved(-2, (-2, 1, 1))}
    write_study(out, synthesise(3, Variant.UNIFOCAL, 4.0), motions)
    return out


def write_small_model(installed: Path) -> str:
    """Write a package whose small network marks what is bright in each channel, on a grid of 3 mm; return its name."""
    import torch
    from torch import nn

    from models.network import build_network
    from tests.support.tiny_package import TINY, write_tiny_package

    network = build_network(TINY, 3, 3)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)  # a residual block without weights passes on its input
    first, norm = network.get_parameter("convInit.conv.weight"), network.get_parameter("conv_final.0.weight")
    last, bias = network.get_parameter("conv_final.2.conv.weight"), network.get_parameter("conv_final.2.conv.bias")
    with torch.no_grad():
        norm.fill_(1.0)
        bias.fill_(-10.0)
        for channel in range(3):
            first[channel, channel, 1, 1, 1] = 1.0
            last[(1, 2, 0)[channel], channel] = (
                4.0  # the channels are ADC, FLAIR, T1CE; marked above 2.5 standard deviations
            )
    return write_tiny_package(installed / "tiny", network).name


def read_volumes(dicom: Path, roles: tuple[Role, ...]) -> dict[Role, Volume]:
    """Read the series that the node chooses for `roles` in the one study of a folder."""
    from pipeline.choose import Selected, choose
    from pipeline.read import read_volume
    from pipeline.rules import load_rules
    from pipeline.scan import scan

    (study,) = scan([dicom]).studies
    selected = choose(study, roles, load_rules())
    assert isinstance(selected, Selected), selected
    return {role: read_volume(selected.series(role), role) for role in roles}


def copies(images: Mapping[str, Dataset], number: int) -> dict[str, Dataset]:
    """Return copies of images, by file name, that look like those of another study: UIDs follow from `number`.

    The copies share the elements that they do not change with the given images.
    """
    new: dict[str, str] = {}
    made = {}
    for name, image in images.items():
        copied = Dataset(dict(image.items()))  # of a data set it would take the very dictionary
        copied.file_meta = FileMetaDataset(dict(image.file_meta.items()))
        for keyword in UIDS:
            uid = new.setdefault(image[keyword].value, generate_uid(entropy_srcs=[str(number), image[keyword].value]))
            copied.add_new(keyword, "UI", uid)  # an attribute would be set in the shared element
        copied.file_meta.add_new("MediaStorageSOPInstanceUID", "UI", copied.SOPInstanceUID)
        made[name] = copied
    return made


def read_images(folder: Path) -> dict[str, Dataset]:
    """Read all files of a folder and of those in it, by name relative to it."""
    return {str(path.relative_to(folder)): dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def write_images(images: Mapping[str, Dataset], folder: Path) -> None:
    """Write images under their names."""
    for name, image in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save_as(path, enforce_file_format=True)


def main() -> None:
    """Write a study: `python -m benchmarks.studies OUT [--small]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    write_study(options.out, options.small)


if __name__ == "__main__":
    main()
