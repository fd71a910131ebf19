"""Labels of one picture can be told apart, whatever a data set calls them."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.labels import PAPER_LABELS, Role
from models.training.reader_study.case_pictures import Scene, write_pictures
from models.training.report.slice_pictures import colours_of
from pipeline.volume import Geometry, Volume

OURS, BRATS = tuple(label.name for label in PAPER_LABELS), ("TC", "WT", "ET", "RC")


@pytest.mark.parametrize(
    "labels",
    [OURS, BRATS, OURS + BRATS, ("NCR", "ED"), (*BRATS, "cyst"), tuple("abcdefgh"), (*OURS, "ab", "ba", "oedema")],
)
def test_labels_of_one_picture_have_colours_far_apart(labels: tuple[str, ...]) -> None:
    colours = colours_of(labels)
    assert len(colours) == len(labels)
    # 60 of 441 is what an eye tells apart in thin lines on grey; greys themselves are far from all.
    assert min(np.linalg.norm(np.subtract(*pair)) for pair in combinations(colours, 2)) > 60
    assert min(np.ptp(colour) for colour in colours) > 75


def test_known_labels_have_their_colours_in_every_company() -> None:
    assert colours_of(OURS) == tuple(label.colour_rgb for label in PAPER_LABELS)
    alone = {label: colours_of((label,))[0] for label in OURS + BRATS}
    assert dict(zip(BRATS[::-1], colours_of(BRATS[::-1]), strict=True)) == {label: alone[label] for label in BRATS}
    assert colours_of(("x", "ET", "y"))[1] == alone["ET"]


def test_the_regions_of_brats_lie_in_each_other_in_colours_of_their_own(tmp_path: Path) -> None:
    grid = Geometry.axial((1, 64, 64), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "")
    rows, columns = np.mgrid[:64, :64]
    from_middle = np.hypot(rows - 32, columns - 32)
    masks = np.stack([from_middle <= radius for radius in (15, 22, 9, 4)])[:, None]
    noise = np.random.default_rng(1).normal(0, 60, grid.shape)
    volume = Volume((600 * (from_middle < 30) + noise).astype(np.float32), grid)
    write_pictures(Scene({Role.T1CE: volume}, BRATS, (0,)), [("item", masks)], tmp_path)
    drawn = np.asarray(Image.open(tmp_path / "item-000.png").convert("RGBA"))
    middle = drawn[drawn.shape[0] // 2]
    seen = [tuple(int(part) for part in pixel[:3]) for pixel in middle[: len(middle) // 2] if pixel[3]]
    outwards = [colours_of(BRATS)[place] for place in (1, 0, 2, 3)]
    nearest = [min(outwards, key=lambda colour: np.abs(np.subtract(colour, pixel)).max()) for pixel in seen]
    assert list(dict.fromkeys(nearest)) == outwards
    assert max(np.abs(np.subtract(one, two)).max() for one, two in zip(nearest, seen, strict=True)) <= 8
