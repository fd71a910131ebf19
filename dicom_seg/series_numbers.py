"""Number the series of our own objects beside those of their study."""

from collections.abc import Iterable
from itertools import count, islice

from models.labels import Role

_FIRST = 8000
"""Scanners do not reach it; other programs that add series to a study may."""
_BLOCK = 10
"""Numbers kept for one result."""

SEG = {Role.T1CE: 1, Role.ADC: 3, Role.FLAIR: 4, Role.T1: 7, Role.T2: 8, Role.DWI: 9}
"""Place of each series in the block of a result; so are the others."""
MEASUREMENTS, DIAMETERS, CAPTURES = 2, 5, 6


def first_free_block(taken: Iterable[int | None], earlier_results: int = 0) -> int:
    """Return the number to which the places of a result's series are added: 8000, or the next in tens that is free.

    `taken` are the series numbers of the study. Each of the study's earlier results took the next free block of ten.
    """
    numbers = set(taken)
    free = (base for base in count(_FIRST, _BLOCK) if numbers.isdisjoint(range(base + 1, base + _BLOCK)))
    return next(islice(free, earlier_results, None))
