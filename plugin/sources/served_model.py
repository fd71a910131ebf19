"""Find the model package that the settings name, and the roles it requires. Loads no weights and no torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from models.labels import Role, find_label
from models.package import ModelPackage, PackageBroken, find_package
from pipeline.errors import ModelUnusable, SettingsWrong


def served_package(name: str, installed: Path | None) -> ModelPackage:
    """Return the package called `name`. Raises ModelUnusable."""
    try:
        return find_package(name, installed)
    except PackageBroken as exc:
        raise ModelUnusable(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class WantedRoles:
    """The roles that series of a study are chosen for."""

    roles: tuple[Role, ...]
    """The model's channels, and the roles on which its labels are defined."""
    optional: tuple[Role, ...]
    """Those of them that a study may lack."""


def wanted_roles(package: ModelPackage, require: Collection[Role] = ()) -> WantedRoles:
    """Return the roles that are chosen for a model, and which are optional.

    `require` is the setting `model.require`: channels that a site requires, whatever the package can do without. A
    label that is not defined on a channel needs its series all the same, unless it may be inferred. Raises
    SettingsWrong if `require` names what is no channel.
    """
    if others := [role for role in require if role not in package.channels]:
        raise SettingsWrong(
            f"model.require names {', '.join(others)}; the channels of model {package.name} are "
            f"{', '.join(package.channels)}."
        )
    inferable = {output.name for output in package.labels if output.inferred_from}
    found = [label for output in package.labels if (label := find_label(output.name)) is not None]
    needed = [label.defined_on for label in sorted(found, key=lambda label: label.number)]
    spared = [
        label.defined_on for label in found if label.name in inferable and label.defined_on not in package.channels
    ]
    roles = tuple(dict.fromkeys([*package.channels, *needed]))
    spare = {*package.optional, *spared} - set(require)
    return WantedRoles(roles, tuple(role for role in roles if role in spare))
