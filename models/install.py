"""Verify model packages and install them into a folder of packages."""

import shutil
import tempfile
from pathlib import Path

from models.package import CARD_FILE, PATIENTS_FILE, WEIGHTS_FILE, ModelPackage, PackageBroken, read_package
from models.weights import load_network


def verify_package(package: ModelPackage) -> None:
    """Check that the weights match their sha256, fit the network by name and shape, and are finite.

    Raises PackageBroken, also if the model card is missing.
    """
    load_network(package)
    if not (package.folder / CARD_FILE).is_file():
        raise PackageBroken(f"Model {package.name}: {CARD_FILE} is missing from {package.folder}.")


def install_package(source: Path, installed: Path) -> ModelPackage:
    """Verify the package in folder `source` and copy it into the folder `installed`. Raises PackageBroken.

    An installed package of the same name is replaced, unless it has the same version and other weights.
    """
    package = read_package(source)
    verify_package(package)
    target = installed / package.name
    if target.is_dir():
        present = read_package(target)
        if present.version == package.version and present.weights_sha256 != package.weights_sha256:
            raise PackageBroken(
                f"Model {package.name} {package.version} is installed with other weights; "
                "give the new one a new version."
            )
    installed.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{package.name}-", dir=installed))
    try:
        others = [path.name for path in source.glob("*.png") if path.is_file()]  # figures of the model card
        others += [PATIENTS_FILE] if (source / PATIENTS_FILE).is_file() else []
        for name in ("model.toml", WEIGHTS_FILE, CARD_FILE, *others):
            shutil.copyfile(source / name, staging / name)
        retired = installed / f".{package.name}-retired"
        shutil.rmtree(retired, ignore_errors=True)
        if target.exists():
            target.rename(retired)
        staging.rename(target)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return read_package(target)
