"""Hold what each series shows of the head, as measured by `pipeline.coverage`."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from models.labels import Label, Role
from pipeline.remarks import Remark, RemarkKind

WHOLE = 0.95
"""Share of the head from which a series counts as whole, if no side of the head is missing either."""
_MOST_SIDES = 3
_SMALLEST_ML = 0.1
"""Less is not worth a sentence."""
LARGEST_HIDDEN_MM = 20.0
"""Diameter of a ball that finds room in no unseen part of the head of a whole series."""


class Side(StrEnum):
    """A side of the head, in the patient's terms."""

    TOP = "top"
    BOTTOM = "bottom"
    FRONT = "front"
    BACK = "back"
    RIGHT = "right"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class UnseenSide:
    """The outermost part of the head on one side, which a series does not show."""

    side: Side
    thickness_mm: float
    """From the skin; at the bottom from the lower end of the region of the brain."""


@dataclass(frozen=True, slots=True)
class MarkedUnseen:
    """Volumes that the model marked where not every series shows the head."""

    labels: tuple[Label, ...] = ()
    left_out_ml: tuple[float, ...] = ()
    """For each label, where the series that shows it was not seen."""
    doubtful_ml: tuple[float, ...] = ()
    """Where only another series was not seen; kept."""


@dataclass(frozen=True, slots=True)
class RoleCoverage:
    """What a series shows of the head, as shares of the region that has to be seen."""

    role: Role
    share_of_head: float
    """Of the head as all series together show it."""
    share_of_t1ce_head: float
    """Of the part that the reference series shows: T1CE where there is one."""
    unseen_sides: tuple[UnseenSide, ...] = ()
    """The sides of the head that it does not show, the one that explains most of the unseen part first."""
    hidden_mm: float = 0.0
    """Diameter of the largest ball that finds room in a part that is not seen."""

    @property
    def whole(self) -> bool:
        """Whether no part of the head is missing that could hide a lesion of two centimetres."""
        return self.share_of_head >= WHOLE and not self.unseen_sides and self.hidden_mm < LARGEST_HIDDEN_MM

    def missing(self) -> str:
        """Return what is not seen in words, such as "the top 40 mm of the head"."""
        percent = f"about {max(1, round(100 * (1 - self.share_of_head)))} % of the head"
        if not self.unseen_sides:
            return percent if self.share_of_head < WHOLE else f"{percent}, {5 * round(self.hidden_mm / 5)} mm across,"
        sides = ", ".join(
            f"the {each.side} {5 * round(each.thickness_mm / 5)} mm" for each in self.unseen_sides[:_MOST_SIDES]
        )
        return f"{sides} of the head ({percent})"


def coverage_remarks(roles: Iterable[RoleCoverage], marked: MarkedUnseen) -> tuple[Remark, ...]:
    """Return a remark for each series that does not show the whole head, and those on what was marked there."""
    partial = [each for each in roles if not each.whole]
    remarks = [
        Remark(
            RemarkKind.COVERAGE,
            f"{_capital(each.missing())} were not seen on {each.role}; what lies there was not assessed.",
            (each.role,),
        )
        for each in partial
    ]
    names = tuple(each.role for each in partial)
    if volumes := _volumes(marked.labels, marked.doubtful_ml):
        text = f"{volumes} lie where not every series shows the head; there the model is not to be relied on."
        remarks.append(Remark(RemarkKind.COVERAGE, text, names))
    if volumes := _volumes(marked.labels, marked.left_out_ml):
        text = f"{volumes} were marked where the series on which they are defined shows nothing, and were left out."
        remarks.append(Remark(RemarkKind.COVERAGE, text, names))
    return tuple(remarks)


def _volumes(labels: Iterable[Label], volumes_ml: Iterable[float]) -> str:
    named = zip(labels, volumes_ml, strict=True)
    return ", ".join(f"{volume:.1f} ml of {label.title}" for label, volume in named if volume >= _SMALLEST_ML)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
