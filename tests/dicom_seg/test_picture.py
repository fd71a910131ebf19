from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.signal import fftconvolve

from dicom_seg.picture import FOOTER_PX, HEADER_PX, draw_pictures, layout
from models.labels import PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import Panels
from pipeline.volume import Geometry

SHAPE = (7, 40, 50)
ROLES = (Role.T1CE, Role.FLAIR, Role.ADC)
BOX = np.s_[10:20, 15:35]
"""(rows, columns) of the label in each of the slices of `boxed`."""


def boxed(*labels):
    masks = np.zeros((3, *SHAPE), bool)
    for label in labels:
        masks[label.number - 1, 2:5][:, *BOX] = True
    return masks


def grey(*values, slices=(2, 3, 4), shape=SHAPE):
    """Panels of one value each."""
    pixels = np.empty((len(values), len(slices), *shape[1:]), np.float32)
    pixels[:] = np.array(values)[:, None, None, None]
    return Panels(slices, ROLES[: len(values)], pixels)


@pytest.fixture
def draw(make_result):
    """The pictures of a result on T1CE slices of 40 rows and 50 columns."""

    def draw(panels=None, masks=None, shape=SHAPE, **result):
        masks = boxed(*PAPER_LABELS) if masks is None else masks
        made = make_result(masks, shape=shape, **result)
        return list(draw_pictures(made, panels or grey(100, 100, 1500))), made.source(Role.T1CE).geometry

    return draw


def panel(picture, geometry, number):
    """The slice in a panel of a picture."""
    places = layout(geometry)
    (x, y), (width, height) = places.corner(number), places.image
    return picture[y : y + height, x : x + width]


def coloured(image):
    """Return the mask of coloured pixels of a picture."""
    return np.ptp(image.astype(int), axis=2) > 0


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return np.array([[rows.min(), rows.max() + 1], [columns.min(), columns.max() + 1]])


def foot(picture):
    """The part below the panels."""
    return picture[-FOOTER_PX:]


def shows(picture, text):
    """Return whether a picture contains a text in any brightness, by normalised correlation with the drawn text."""
    font = ImageFont.load_default(16)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    written = Image.new("L", (right + 2, bottom + 2))
    ImageDraw.Draw(written).text((0, 0), text, fill=255, font=font)
    template = np.asarray(written, float)[top:bottom, left:right]
    image = picture.max(axis=2).astype(float)
    product = fftconvolve(image, template[::-1, ::-1], "valid")
    energy = fftconvolve(image**2, np.ones_like(template), "valid").clip(min=1) * (template**2).sum()
    return (product / np.sqrt(energy)).max() > 0.98


def test_three_panels_show_each_label_where_it_lies(draw):
    for label in PAPER_LABELS:
        pictures, geometry = draw(masks=boxed(label))
        scale = np.array(layout(geometry).image[::-1]) / SHAPE[1:]
        expected = scale[:, None] * [[BOX[0].start, BOX[0].stop], [BOX[1].start, BOX[1].stop]]
        for number in range(3):
            found = panel(pictures[0], geometry, number)
            assert np.abs(box_of(coloured(found)) - expected).max() <= 1
            assert {tuple(colour) for colour in found[coloured(found)]} == {label.colour_rgb}


def test_all_labels_are_visible_where_they_coincide(draw):
    pictures, geometry = draw()
    for number in range(3):
        found = panel(pictures[1], geometry, number)
        assert {tuple(colour) for colour in found[coloured(found)]} == {label.colour_rgb for label in PAPER_LABELS}


def test_a_slice_without_a_label_has_no_contour(draw):
    pictures, geometry = draw(grey(100, 100, 1500, slices=(0, 3)))
    assert not coloured(panel(pictures[0], geometry, 0)).any()
    assert coloured(panel(pictures[1], geometry, 0)).any()


@pytest.mark.parametrize("shape", [(7, 40, 50), (5, 64, 16), (5, 16, 64), (4, 600, 700)])
def test_a_millimetre_is_as_wide_as_high(shape, draw):
    # The synthetic series has rows 1.25 mm and columns 0.9 mm apart: 18 rows are as long as 25 columns.
    masks = np.zeros((3, *shape), bool)
    rows, columns = min(shape[1], 18), min(shape[2], 25)
    masks[0, 2, :rows, :columns] = True
    pictures, geometry = draw(grey(1, 1, 1, slices=(2,), shape=shape), masks, shape)
    height, width = np.ptp(box_of(coloured(panel(pictures[0], geometry, 0))), axis=1)
    px_per_mm = max(layout(geometry).image) / max(shape[1] * 1.25, shape[2] * 0.9)
    assert height == pytest.approx(rows * 1.25 * px_per_mm, abs=1.5)
    assert width == pytest.approx(columns * 0.9 * px_per_mm, abs=1.5)
    assert 384 <= max(layout(geometry).image) <= 512
    assert layout(geometry).panel[0] >= 256


def test_adc_has_a_fixed_scale_and_what_is_missing_is_black(draw):
    panels = grey(100, 100, 1500)
    panels.pixels[:, :, :, 25:] = np.nan
    pictures, geometry = draw(panels, masks=boxed())
    adc = panel(pictures[0], geometry, 2)
    middle, quarter = adc.shape[0] // 2 + 40, adc.shape[1] // 4  # aside from the letters
    assert tuple(adc[middle, quarter]) == (128, 128, 128)  # 1500 of 0 to 3000, of 255
    assert tuple(adc[middle, 3 * quarter]) == (0, 0, 0)
    assert shows(pictures[0][:HEADER_PX], "ADC, 0-3000 x 10-6 mm2/s")
    values = {}
    for value in (-5, 3000, 9000):
        values[value] = panel(draw(grey(1, 1, value), masks=boxed())[0][0], geometry, 2)[middle, quarter, 0]
    assert values == {-5: 0, 3000: 255, 9000: 255}


def test_t1ce_and_flair_are_scaled_over_the_head_the_same_on_all_slices(draw):
    panels = grey(0, 0, 0)
    head = np.s_[:, 5:35, 5:45]
    ramp = np.linspace(400, 800, 40)
    panels.pixels[0][head] = ramp
    panels.pixels[1][head] = ramp * 3 + 7
    panels.pixels[0, 1][5:35, 5:45] = 600
    panels.pixels[0, :, 0, 0] = 1e6  # a hot voxel
    pictures, geometry = draw(panels, masks=boxed())
    scale = layout(geometry).image[0] / SHAPE[2]
    row = round(12 * layout(geometry).image[1] / SHAPE[1])
    for number in (0, 1):
        profile = panel(pictures[0], geometry, number)[row, :, 0].astype(int)
        inside = profile[round(6 * scale) : round(44 * scale)]
        assert inside.min() < 15
        assert inside.max() > 240
        assert np.diff(inside).min() >= -1  # bright where the voxels are
    # 600 is the middle of 400 to 800.
    assert panel(pictures[1], geometry, 0)[row, round(20 * scale), 0] == pytest.approx(128, abs=8)


LETTERS_AT_EDGES = {
    # (left, right, top, bottom): PS3.3 C.7.6.2.1.1; axial: columns to the left, rows to the back.
    "axial": ("R", "L", "A", "P"),
    "sagittal": ("A", "P", "H", "F"),
    "coronal": ("R", "L", "H", "F"),
    "feet first": ("L", "R", "A", "P"),
}
CORONAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)
MIRRORED = np.array([[0, 0, -1], [0, 1, 0], [-1, 0, 0]], float)


@pytest.mark.parametrize(
    ("name", "orientation"),
    [("axial", "axial"), ("sagittal", "sagittal"), ("coronal", CORONAL), ("feet first", MIRRORED)],
)
def test_letters_name_the_patient_direction_at_each_edge(name, orientation, draw):
    pictures, geometry = draw(grey(0, 0, 0), boxed(), orientation=orientation)
    for number in range(3):
        image = panel(pictures[0], geometry, number)
        height, width = image.shape[:2]
        edges = (image[:, :24], image[:, width - 24 :], image[:24], image[height - 24 :])
        found = tuple("".join(letter for letter in "RLAPHF" if shows(edge, letter)) for edge in edges)
        # "F" and "P" hold one another's strokes: the right letter must be among those that are found.
        assert all(right in several for right, several in zip(LETTERS_AT_EDGES[name], found, strict=True)), found
        assert not any(wrong in several for wrong, several in zip(_opposites(name), found, strict=True)), found


def _opposites(name):
    left, right, top, bottom = LETTERS_AT_EDGES[name]
    return right, left, bottom, top


def test_every_picture_has_the_table_the_model_and_its_use(draw):
    pictures, geometry = draw()
    for index, picture in zip((2, 3, 4), pictures, strict=True):
        for label in PAPER_LABELS:
            assert shows(foot(picture), label.title)
            assert (picture == label.colour_rgb).all(axis=2)[HEADER_PX + layout(geometry).panel[1] :].sum() == 13 * 13
        voxels = 3 * 10 * 20  # three slices of BOX
        assert shows(foot(picture), f"{voxels * 2.5 * 1.25 * 0.9 / 1000:.1f} ml")
        assert shows(foot(picture), "2 lesions")
        assert shows(foot(picture), "Model: phantom-demo 0.1.0")
        assert shows(foot(picture), "Demonstration only, not for clinical use")
        assert shows(foot(picture), f"Slice {index + 1} of 7")
        assert not shows(foot(picture), f"Slice {index} of 7")
        assert not shows(foot(picture), "Nothing was found")


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (IntendedUse.RESEARCH, "Research only, not for clinical use"),
        (IntendedUse.CLINICAL, "Intended use: clinical"),
    ],
)
def test_other_intended_uses_are_named_too(use, sentence, draw):
    (picture, *_), _ = draw(intended_use=use)
    assert shows(foot(picture), sentence)
    assert not shows(foot(picture), "Demonstration")


def test_an_empty_result_says_so(draw):
    (picture, *_), _ = draw(masks=boxed())
    assert shows(foot(picture), "Nothing was found: no label has a voxel.")
    assert shows(foot(picture), "0.0 ml")
    assert shows(foot(picture), "0 lesions")


def test_the_volume_of_a_single_voxel_is_not_shown_as_zero(draw):
    masks = boxed()
    masks[0, 2, 5, 5] = True
    (picture, *_), _ = draw(masks=masks)
    assert shows(foot(picture), "0.003 ml")  # 2.5 x 1.25 x 0.9 mm3
    assert shows(foot(picture), "1 lesion")
    assert not shows(foot(picture), "Nothing was found")


def test_nothing_of_the_patient_is_in_a_picture(draw):
    some, _ = draw(patient_name="Doe^Jane")
    others, _ = draw(patient_name="Nemo^Nobody")
    for one, other in zip(some, others, strict=True):
        assert np.array_equal(one, other)


def test_a_long_model_name_is_truncated(make_result):
    result = make_result(boxed(), shape=SHAPE)
    result = replace(result, model=replace(result.model, name="very-long-" * 6))
    narrow = replace(result.source(Role.T1CE), geometry=Geometry.axial((7, 60, 20), (1, 1, 1), (0, 0, 0), "1.2"))
    result = replace(result, sources=(*result.sources[:2], narrow), masks=np.zeros((3, 7, 60, 20), bool))
    (picture,) = draw_pictures(result, grey(1, 1, 1, slices=(3,), shape=(7, 60, 20)))
    assert shows(foot(picture), "Model: very-long-very-long")
    assert picture.shape[1] == 3 * 256 + 2 * 4
    assert not picture[-FOOTER_PX : -FOOTER_PX + 75, 390:398].any()  # between the table and the model


REMARKS = (
    Remark(
        RemarkKind.COVERAGE,
        "The top 40 mm, the left 25 mm, the back 30 mm of the head (about 18 % of the head) were not seen on ADC; what "
        "lies there was not assessed.",
        (Role.ADC,),
    ),
    Remark(RemarkKind.DATES, "The series were acquired 3 days apart."),
)


def test_remarks_are_written_whole_in_the_narrowest_picture(make_result):
    result = make_result(boxed(*PAPER_LABELS), shape=SHAPE)
    (plain, *_) = draw_pictures(result, grey(100, 100, 1500))
    (picture, *_) = draw_pictures(replace(result, remarks=REMARKS), grey(100, 100, 1500))
    assert picture.shape[0] > plain.shape[0]
    for words in (
        "The top 40 mm, the left 25 mm,",
        "there was not assessed.",
        "The series were acquired 3 days apart.",
    ):
        assert shows(picture, words)
        assert not shows(plain, words)
    assert not coloured(picture[:, -8:]).any(), "no line runs over the edge"
    assert shows(picture, "Contours that run together are dashed.")


def test_a_label_that_was_not_found_where_not_all_was_seen_is_not_shown_as_zero(make_result):
    result = make_result(boxed(), shape=SHAPE)
    partial = tuple(replace(each, seen_share=0.8) for each in result.measurements)
    (picture, *_) = draw_pictures(replace(result, measurements=partial), grey(100, 100, 1500))
    assert shows(picture, "not found where seen")
    assert shows(picture, "Nothing was found in the part of the head that was seen.")
    assert not shows(picture, "0.0 ml")
    (picture, *_) = draw_pictures(result, grey(100, 100, 1500))
    assert shows(picture, "0.0 ml")
