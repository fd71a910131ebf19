"""Name subsets of the channels of a model, and say which labels the node reports of a study that has only these."""

from collections.abc import Collection, Sequence

from models.labels import Role, find_label
from models.package import OutputLabel

ALL = "all"


def subset_name(absent: Collection[Role], channels: Sequence[Role]) -> str:
    """Return "all", "without ADC", "without ADC and FLAIR", or "T1CE alone" where two or more others are absent."""
    missing = [role for role in channels if role in absent]
    there = [role for role in channels if role not in absent]
    if len(there) == 1 and len(missing) > 1:
        return f"{there[0]} alone"
    return f"without {' and '.join(missing)}" if missing else ALL


def is_reported(label: OutputLabel, absent: Collection[Role]) -> bool:
    """Return whether the node reports a label although these channels are absent: by its series, or inferred."""
    known = find_label(label.name)
    return (
        known is None
        or known.defined_on not in absent
        or bool(label.inferred_from and not set(label.inferred_from) & set(absent))
    )
