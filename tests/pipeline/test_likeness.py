"""Motions are measured alike one by one, as on a CPU, and many at once, as on a GPU; the search takes the same way."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import Role
from pipeline.coarse_search import climb_from_identity
from pipeline.likeness import Comparison, Likeness, coarse
from tests.support.tissue_head import FLAIR_VALUES, GRID, T1CE_VALUES, motion_of, moved, scan

T1CE = scan(T1CE_VALUES, GRID)
FLAIR = moved(scan(FLAIR_VALUES), motion_of([9, -6, 8], [14, -9, 11]))


def comparison(at_once: int) -> Comparison:
    found = Comparison(coarse(T1CE, Role.T1CE, 8.0), coarse(FLAIR, Role.FLAIR, 8.0))
    found._at_once = at_once
    return found


def test_motions_at_once_have_the_same_likeness() -> None:
    motions = np.tile(np.eye(4), (7, 1, 1))
    motions[:, :3, :3] = Rotation.from_euler("xyz", np.linspace(-20, 20, 21).reshape(7, 3), degrees=True).as_matrix()
    motions[6, :3, 3] = 900  # beyond all
    one_by_one = list(comparison(1).of_each(motions))
    assert one_by_one == [comparison(1).at(each) for each in motions]
    assert list(comparison(3).of_each(motions)) == one_by_one
    assert one_by_one[6] == Likeness(0.0, 0.0, 0.0)
    assert one_by_one[3].information > 0.1


def test_the_search_takes_the_same_way() -> None:
    expected = climb_from_identity(comparison(1))
    assert abs(expected - np.eye(4)).max() > 4
    for at_once in (5, 100):
        np.testing.assert_array_equal(climb_from_identity(comparison(at_once)), expected)


def test_each_parameter_is_tried_in_turn_from_the_best_place_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, ...]] = []

    def likeness(shift: tuple[float, ...]) -> Likeness:
        asked.append(shift)
        x, y, z = shift
        return Likeness(-((x - 13) ** 2) - (y + 9) ** 2 - (z - x - y) ** 2, 1.0, 1.0)

    def of_each(_: Comparison, motions: NDArray[np.float64]) -> Iterator[Likeness]:
        return (likeness(tuple(motion[:3, 3].round(6).tolist())) for motion in motions)

    monkeypatch.setattr(Comparison, "of_each", of_each)
    monkeypatch.setattr("pipeline.coarse_search._DEGREES_PER_MM", 0.0)
    found = climb_from_identity(comparison(1))[:3, 3].round(6)
    tried, asked = asked, []

    best, place, step = likeness((0.0, 0.0, 0.0)).information, np.zeros(3), 8.0
    while step >= 4:
        before = best
        for axis in range(-3, 3):  # the first three are the rotations, which change nothing here
            for direction in (step, -step) if axis >= 0 else (0, 0):
                neighbour = place + direction * np.eye(3)[axis]
                value = likeness(tuple(neighbour.tolist())).information
                if value > best + 1e-6:
                    best, place = value, neighbour
                    break
        step = step if best > before else step / 2
    assert (tried, found.tolist()) == (asked, place.tolist())
    assert abs(place[:2]).min() > 8
