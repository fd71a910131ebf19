"""Families of synthetic heads: what a network learns from, and what it is only ever tested on."""

from enum import StrEnum


class Family(StrEnum):
    """Where anatomy, tumours and signals of a synthetic head come from.

    PAINTED and TEMPLATE differ in the brain alone; GROWN shares none of the three with them.
    """

    PAINTED = "painted"
    """Painted shapes with drawn tumours under drawn contrast (`anatomy`, `tumour`, `signal`): the training family."""
    GROWN = "grown"
    """Cortex of average surfaces, tumours of growth equations, signals of sequences (`grown`): held out."""
    TEMPLATE = "template"
    """An average brain's tissue maps (`template`), otherwise as PAINTED: learned from, too."""


LEARNED_FROM = (Family.PAINTED, Family.TEMPLATE)
"""What training draws its heads from; all others are held out."""
LEARNED = "learned"
"""The group of all heads like those that training draws."""


def group_of(family: Family) -> str:
    """What heads of a family are summed up with: those like the ones learned from together, each other by itself."""
    return LEARNED if family in LEARNED_FROM else family.value
