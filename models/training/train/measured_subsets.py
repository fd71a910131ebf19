"""Which subsets of its channels a network is measured on while it is trained."""

from collections.abc import Sequence

from models.labels import Role


def measured_subsets(channels: Sequence[Role]) -> tuple[tuple[Role, ...], ...]:
    """Return the subsets on which every network is measured: all, all but each one, and T1CE alone."""
    subsets = [tuple(channels)]
    if len(channels) > 1:
        subsets += [tuple(role for role in channels if role is not left_out) for left_out in channels]
    if len(channels) > 2 and Role.T1CE in channels:
        subsets.append((Role.T1CE,))
    return tuple(subsets)


def smaller_subsets(present: Sequence[Role]) -> tuple[tuple[Role, ...], ...]:
    """Return the subsets on which a network is measured in a case with these channels beside all of them."""
    return measured_subsets(present)[1:]


def absent_from(subset: Sequence[Role], channels: Sequence[Role]) -> tuple[Role, ...]:
    """Return the channels that a subset lacks."""
    return tuple(role for role in channels if role not in subset)
