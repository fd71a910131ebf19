"""In which order a reader sees the items: by chance, and never one case twice in a short while. Knows no images."""

from collections.abc import Mapping, Sequence
from random import Random

MOST_APART = 10


def reading_order(case_of: Mapping[str, str], generator: Random) -> tuple[str, ...]:
    """The items (keys) so that MOST_APART others, or half as many as there are cases, lie between two of one case.

    Near the end, where only items of recent cases may be left, the one whose case was seen longest ago comes first.
    """
    apart = min(MOST_APART, len(set(case_of.values())) // 2)
    left, order = list(case_of), list[str]()
    last_seen: dict[str, int] = {}
    while left:
        fresh = [item for item in left if len(order) - last_seen.get(case_of[item], -apart - 1) > apart]
        chosen = generator.choice(fresh) if fresh else _longest_ago(left, case_of, last_seen)
        left.remove(chosen)
        last_seen[case_of[chosen]] = len(order)
        order.append(chosen)
    return tuple(order)


def _longest_ago(left: Sequence[str], case_of: Mapping[str, str], last_seen: Mapping[str, int]) -> str:
    return min(left, key=lambda item: last_seen[case_of[item]])
