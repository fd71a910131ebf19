"""Pictures of the cases that came off worst: truth and what was found, label by label. Writes no files."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.training.evaluation.over_dataset import CaseScore, Compared
from models.training.pictures import Outline, drawn_on, grey_slice, outlined, side_by_side, window_of

TRUE_COLOUR = (70, 220, 110)
FOUND_COLOUR = (240, 80, 220)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One case, drawn."""

    score: CaseScore
    slices: tuple[int, ...]
    """The slice of each label, from 0."""
    png: bytes
    """A panel for each label, in the order of the score's labels."""


class WorstCases:
    """Keeps the pictures of the few cases of the lowest mean Dice, among equals of the first ids."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Overlay] = []

    def see(self, compared: Compared) -> None:
        """Draw a case if it is among the worst so far."""
        if self._most and (len(self._kept) < self._most or _rank(compared.score) < _rank(self._kept[-1].score)):
            self._kept = sorted([*self._kept, draw(compared)], key=lambda kept: _rank(kept.score))[: self._most]

    @property
    def kept(self) -> tuple[Overlay, ...]:
        """The worst first."""
        return tuple(self._kept)


def _rank(score: CaseScore) -> tuple[float, str]:
    return score.mean_dice, score.case_id


def draw(compared: Compared) -> Overlay:
    """Each label on its own channel, in the slice where truth and found differ most."""
    panels: list[Image.Image] = []
    slices: list[int] = []
    for label, true, found in zip(compared.labels, compared.truth, compared.found, strict=True):
        role = drawn_on(label, compared.volumes)
        volume = compared.volumes[role]
        index = _worst_slice(true, found)
        outlines = (Outline(true[index], TRUE_COLOUR), Outline(found[index], FOUND_COLOUR))
        panels.append(outlined(grey_slice(volume, index, window_of(volume, role)), outlines))
        slices.append(index)
    stream = io.BytesIO()
    side_by_side(panels).save(stream, "png", optimize=True)
    return Overlay(compared.score, tuple(slices), stream.getvalue())


def _worst_slice(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> int:
    wrong = np.count_nonzero(true ^ found, axis=(1, 2))
    if wrong.any():
        return int(wrong.argmax())
    inside = np.count_nonzero(true, axis=(1, 2))
    return int(inside.argmax()) if inside.any() else len(true) // 2
