"""Families of synthetic heads: those for training, and those held out for evaluation."""

from enum import StrEnum


class Family(StrEnum):
    """How anatomy, tumours and signals of a synthetic head are generated.

    PAINTED and TEMPLATE differ only in the brain. GROWN shares neither anatomy, tumours nor signals with them.
    """

    PAINTED = "painted"
    """Geometric shapes, random tumours and random contrast (`anatomy`, `tumour`, `signal`). For training."""
    GROWN = "grown"
    """Average cortical surfaces, a tumour growth model, simulated sequences (`growth_model`). Held out."""
    TEMPLATE = "template"
    """Like PAINTED, with the tissue maps of an average brain (`brain_from_template`). For training."""


LEARNED_FROM = (Family.PAINTED, Family.TEMPLATE)
"""The families that training uses; all others are held out."""
LEARNED = "learned"
"""Name of the group of all heads of families that training uses."""


def group_of(family: Family) -> str:
    """Return the group in which results of a family are summarised: LEARNED for training families, else the family."""
    return LEARNED if family in LEARNED_FROM else family.value
