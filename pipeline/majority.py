"""Find the value that most images of a series have."""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

_Value = TypeVar("_Value", bound=Hashable)


def majority(values: Iterable[_Value]) -> _Value | None:
    """Return the most frequent value, of equally frequent ones the first; None without any.

    None, empty values and blank texts do not count: an image that says nothing does not contradict one that does.
    """
    counts = Counter(value for value in values if value not in (None, (), "") and not _is_blank(value))
    return counts.most_common(1)[0][0] if counts else None


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()
