"""Say which channels of a case are read, which the network is given, and which are left out on purpose."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Case as StoredCase
from models.training.evaluation.cases import DatasetCase, EvaluationCase, HeadCase, StudyCase


def needed_channels(package: ModelPackage) -> tuple[Role, ...]:
    """Return the channels to read of a case: the package's, and T1CE, on whose grid everything stands."""
    return package.channels if Role.T1CE in package.channels else (*package.channels, Role.T1CE)


def channels_to_read(case: StoredCase, package: ModelPackage) -> tuple[Role, ...]:
    """Return those of the needed channels that a case of a data set has."""
    return tuple(role for role in needed_channels(package) if role in case.channels)


def absent_channels(case: EvaluationCase, package: ModelPackage) -> tuple[Role, ...]:
    """Return the channels of the package that the network is not given of a case."""
    there = case.stored.channels if isinstance(case, DatasetCase) else package.channels
    return tuple(role for role in package.channels if role in case.without or role not in there)


def with_fewer_channels(
    cases: Sequence[EvaluationCase], package: ModelPackage, left_out: Sequence[Collection[Role]]
) -> tuple[EvaluationCase, ...]:
    """Return the cases once more for each collection of channels to leave out, none twice with the same channels."""
    found: list[EvaluationCase] = []
    for case in cases:
        seen = {absent_channels(case, package)}
        for roles in left_out:
            reduced = _without(case, tuple(role for role in package.channels if role in roles))
            absent = absent_channels(reduced, package)
            if absent not in seen:
                seen.add(absent)
                found.append(reduced)
    return tuple(found)


def check_without(package: ModelPackage, without: Collection[Role]) -> None:
    """Raise ValueError where a channel cannot be left out."""
    for role in without:
        if role not in package.channels:
            raise ValueError(f"model {package.name} does not take {role}; it takes {', '.join(package.channels)}")
        if role not in package.optional:
            raise ValueError(
                f"model {package.name} cannot do without {role}; its optional channels are "
                f"{', '.join(package.optional) or 'none'}"
            )


def _without(case: EvaluationCase, roles: tuple[Role, ...]) -> EvaluationCase:
    assert isinstance(case, (HeadCase, StudyCase, DatasetCase))
    return replace(case, without=roles)
