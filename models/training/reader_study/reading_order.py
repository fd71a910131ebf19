"""Draw the order in which a reader sees the items: random, with distance between the items of one case."""

from collections.abc import Mapping, Sequence
from random import Random

from models.training.reader_study.answer_key import Item

MOST_APART = 10
"""Items that lie between two of one case, where there are enough cases."""


def reading_order(items: Sequence[Item], generator: Random) -> tuple[str, ...]:
    """Return the items' ids with MOST_APART others, or half as many as there are cases, between two of one case.

    Near the end only items of recent cases may be left; then the one whose case was seen longest ago comes first. A
    repeat comes after the item that it repeats.
    """
    case_of = {item.item_id: item.case_id for item in items}
    apart = min(MOST_APART, len(set(case_of.values())) // 2)
    left, order = list(case_of), list[str]()
    last_seen: dict[str, int] = {}
    while left:
        fresh = [item for item in left if len(order) - last_seen.get(case_of[item], -apart - 1) > apart]
        chosen = generator.choice(fresh) if fresh else min(left, key=lambda item: last_seen[case_of[item]])
        left.remove(chosen)
        last_seen[case_of[chosen]] = len(order)
        order.append(chosen)
    return _put_repeats_last(order, {item.item_id: item.repeat_of for item in items if item.repeat_of is not None})


def _put_repeats_last(order: Sequence[str], original_of: Mapping[str, str]) -> tuple[str, ...]:
    """Swap each repeat that comes before its original with it; both are of one case, so that the distances stay."""
    place = {item: number for number, item in enumerate(order)}
    for repeat, original in original_of.items():
        if place[repeat] < place[original]:
            place[repeat], place[original] = place[original], place[repeat]
    return tuple(sorted(order, key=place.__getitem__))
