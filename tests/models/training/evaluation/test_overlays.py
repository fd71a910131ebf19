"""A picture shows each label on its own series and in its place, and holds nothing else."""

import io

import numpy as np
from PIL import Image

from models.labels import PAPER_LABELS, Role
from models.training.evaluation.overlays import FOUND_COLOUR, SMALL_BYTES, TRUE_COLOUR, Overlay, draw_overlay
from pipeline.volume import Geometry, Volume

SHAPE = (9, 60, 50)
NAMES = tuple(label.name for label in PAPER_LABELS)
GRID = Geometry.axial(SHAPE, (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), "")


def box(slices: slice, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[slices, rows, columns] = True
    return mask


def volumes() -> dict[Role, Volume]:
    """Make slices of different brightness, so that a picture reveals which one it shows."""
    levels = np.linspace(300, 2700, SHAPE[0])[:, None, None]
    pixels = np.broadcast_to(levels, SHAPE).astype(np.float32)
    return {role: Volume(pixels.copy(), GRID) for role in (Role.ADC, Role.FLAIR, Role.T1CE)}


def drawn(truth: np.ndarray, found: np.ndarray) -> list[np.ndarray]:
    """Return the panels of a lesion's picture as RGB."""
    return panels_of(draw_overlay(volumes(), NAMES, truth, found, show_errors=False))


def panels_of(overlay: Overlay) -> list[np.ndarray]:
    """Return the panels of a picture as RGB."""
    picture = np.asarray(Image.open(io.BytesIO(overlay.png)).convert("RGB"))
    width = (picture.shape[1] - 2 * 4) // 3
    return [picture[:, place * (width + 4) :][:, :width] for place in range(3)]


def middle(panel: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Return the middle of the contour in a colour, as shares of height and width."""
    rows, columns = np.nonzero((panel == colour).all(axis=-1))
    height, width = panel.shape[:2]
    return float(rows.min() + rows.max()) / 2 / height, float(columns.min() + columns.max()) / 2 / width


def test_contours_stand_where_the_masks_are_and_in_the_fullest_slice() -> None:
    truth = np.stack(
        [
            box(slice(2, 3), slice(10, 20), slice(5, 15)),
            box(slice(4, 5), slice(30, 50), slice(5, 15)) | box(slice(1, 2), slice(0, 5), slice(0, 5)),
            box(slice(6, 7), slice(10, 20), slice(30, 40)),
        ]
    )
    found = np.stack([np.roll(mask, 8, axis=2) for mask in truth])
    panels = drawn(truth, found)
    for panel, rows, columns, index in zip(panels, (15, 40, 15), (10, 10, 35), (2, 4, 6), strict=True):
        true, guess = middle(panel, TRUE_COLOUR), middle(panel, FOUND_COLOUR)
        assert np.allclose(true, (rows / 60, columns / 50), atol=0.02)
        assert np.allclose(guess, (rows / 60, (columns + 8) / 50), atol=0.02)
        if panel is panels[1]:
            # ADC has a fixed window of 3000.
            level = 255 * (300 + index * 300) / 3000
            assert abs(float(np.median(panel[..., 0])) - level) < 255 / 47


def test_a_label_without_a_truth_is_drawn_in_the_slice_of_the_others() -> None:
    empty = np.zeros(SHAPE, bool)
    lesion = box(slice(7, 8), slice(20, 40), slice(20, 40))
    panels = drawn(np.stack([empty, lesion, lesion]), np.stack([lesion, lesion, lesion]))
    assert not (panels[0] == TRUE_COLOUR).all(axis=-1).any()
    assert np.allclose(middle(panels[0], FOUND_COLOUR), (0.5, 0.6), atol=0.02)


def test_the_file_is_small_and_holds_nothing_but_the_picture() -> None:
    shape = (3, 150, 112)  # a head of 1.5 mm
    grid = Geometry.axial(shape, (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), "")
    noise = np.random.default_rng(1)
    # Noise of a tenth of the signal, everywhere: more than any scan has.
    noisy = {
        role: Volume(noise.normal(1500, 150, shape).astype(np.float32), grid)
        for role in (Role.ADC, Role.FLAIR, Role.T1CE)
    }
    masks = np.zeros((len(PAPER_LABELS), *shape), bool)
    masks[:, 1, 40:90, 30:80] = True
    png = draw_overlay(noisy, NAMES, masks, masks, show_errors=False).png
    assert len(png) < SMALL_BYTES <= 150_000
    chunks, place = [], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        chunks.append(png[place + 4 : place + 8])
        place += 12 + length
    assert set(chunks) == {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def test_errors_are_drawn_where_they_are_largest() -> None:
    empty = np.zeros(SHAPE, bool)
    large, small = box(slice(2, 3), slice(5, 40), slice(5, 40)), box(slice(6, 7), slice(10, 20), slice(10, 20))
    truth, found = np.stack([large | small, large, empty]), np.stack([large, large, small])
    overlay = draw_overlay(volumes(), NAMES, truth, found, show_errors=True)
    # What was missed; where nothing is wrong the lesion; what was found in vain.
    assert overlay.slices == (6, 2, 6)
    first, second, third = panels_of(overlay)
    assert (first == TRUE_COLOUR).all(axis=-1).any()
    assert not (first == FOUND_COLOUR).all(axis=-1).any()  # in this slice nothing was found
    assert (second == TRUE_COLOUR).all(axis=-1).any()
    assert not (third == TRUE_COLOUR).all(axis=-1).any()
