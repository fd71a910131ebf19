"""Find the model package that the settings name, and the roles it requires. Loads no weights and no torch."""

from pathlib import Path

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, PackageBroken, find_package
from pipeline.errors import ModelUnusable


def served_package(name: str, installed: Path | None) -> ModelPackage:
    """Return the package called `name`. Raises ModelUnusable."""
    try:
        return find_package(name, installed)
    except PackageBroken as exc:
        raise ModelUnusable(str(exc)) from exc


def required_roles(package: ModelPackage) -> tuple[Role, ...]:
    """Return the roles that a study must have: the model's channels, and those on which labels are defined."""
    return tuple(dict.fromkeys([*package.channels, *(label.defined_on for label in PAPER_LABELS)]))
