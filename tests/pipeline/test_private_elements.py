"""Private elements are found by their creator, in whatever block it reserved, and never where another reserved it."""

import struct
from dataclasses import dataclass
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.csa_header import csa_numbers
from pipeline.scan import scan
from pipeline.study import Instance
from pipeline.volume import Geometry

DIRECTION = (0.6, 0.0, 0.8)
OTHER = "SOME ARCHIVE 1.0"


@dataclass(frozen=True)
class Maker:
    """How a maker writes the b-value, and the direction as one element or as three: (group, creator, number, VR)."""

    manufacturer: str
    b_value: tuple[int, str, int, str]
    written: Any
    direction: tuple[tuple[int, str, int, str], ...]


GE_DIRECTION = tuple((0x0019, "GEMS_ACQU_01", number, "DS") for number in (0xBB, 0xBC, 0xBD))
MAKERS = {
    "siemens": Maker(
        "Siemens Healthineers",
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS"),
        1000,
        ((0x0019, "SIEMENS MR HEADER", 0x0E, "FD"),),
    ),
    "ge": Maker("GE MEDICAL SYSTEMS", (0x0043, "GEMS_PARM_01", 0x39, "IS"), [1000, 8, 0, 0], GE_DIRECTION),
    "ge, several b-values": Maker(
        "GE MEDICAL SYSTEMS", (0x0043, "GEMS_PARM_01", 0x39, "IS"), [1000001000, 8, 0, 0], GE_DIRECTION
    ),
    "philips": Maker(
        "Philips Medical Systems",
        (0x2001, "Philips Imaging DD 001", 0x03, "FL"),
        1000.0,
        tuple((0x2005, "Philips MR Imaging DD 001", number, "FL") for number in (0xB0, 0xB1, 0xB2)),
    ),
    "united imaging": Maker(
        "UIH", (0x0065, "Image Private Header", 0x09, "FD"), 1000.0, ((0x0065, "Image Private Header", 0x37, "FD"),)
    ),
}


@pytest.fixture
def box() -> Geometry:
    """Return a grid of the least images: this is about headers."""
    return Geometry.axial((2, 4, 4), (3.0, 1.5, 1.25), (0.0, 0.0, 0.0), "1.2.3")


def write_diffusion(item: Dataset, maker: Maker) -> None:
    """Add a maker's elements of diffusion to a header or an item."""
    values = [list(DIRECTION)] if len(maker.direction) == 1 else list(DIRECTION)
    elements = ((maker.b_value, maker.written), *zip(maker.direction, values, strict=True))
    for (group, creator, number, vr), value in elements:
        item.private_block(group, creator, create=True).add_new(number, vr, value)


def groups(maker: Maker) -> set[int]:
    return {maker.b_value[0], *(group for group, *_ in maker.direction)}


def first_image(make) -> Instance:
    (study,) = scan([make.folder]).studies
    return study.series[0].instances[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("blocks_of_others", [0, 1, 0xEF])
@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
def test_elements_are_found_in_any_block(make, box, maker, blocks_of_others, syntax):
    def change(dataset: Dataset, _: int) -> None:
        for group in groups(maker):
            for number in range(blocks_of_others):
                # A value of its own where the maker's element would be in the block that scanners use.
                dataset.private_block(group, f"{OTHER} {number}", create=True).add_new(maker.b_value[2], "IS", 77)
        write_diffusion(dataset, maker)

    make.syntax = syntax
    # GE needs two creators in different groups only; the last block of a group is FF.
    make.classic(box, Manufacturer=maker.manufacturer, change=change)
    image = first_image(make)
    assert image.b_value == 1000.0
    assert image.gradient == pytest.approx(DIRECTION)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
def test_the_manufacturer_need_not_be_named(make, box, maker):
    make.classic(box, Manufacturer="", change=lambda dataset, _: write_diffusion(dataset, maker))
    assert first_image(make).b_value == 1000.0


@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
def test_an_element_of_another_creator_is_no_b_value(make, box, maker):
    def change(dataset: Dataset, _: int) -> None:
        write_diffusion(dataset, maker)
        for group in groups(maker):
            dataset[group, 0x10].value = OTHER

    make.classic(box, Manufacturer=maker.manufacturer, change=change)
    image = first_image(make)
    assert image.b_value is None
    assert image.gradient is None


@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
def test_without_a_creator_only_the_maker_is_believed(make, box, maker):
    """Programs that remove patient data may remove the creators and leave the elements."""

    def change(dataset: Dataset, _: int) -> None:
        write_diffusion(dataset, maker)
        for group in groups(maker):
            del dataset[group, 0x10]

    make.classic(box, "by its maker", Manufacturer=maker.manufacturer, change=change)
    make.classic(box, "by another", Manufacturer="OTHER MAKER", change=change, first_file=100)
    (study,) = scan([make.folder]).studies
    found = {one.description: one.instances[0] for one in study.series}
    assert found["by its maker"].b_value == 1000.0
    assert found["by its maker"].gradient == pytest.approx(DIRECTION)
    assert found["by another"].b_value is None
    assert found["by another"].gradient is None


def test_an_impossible_b_value_is_none(make, box):
    group, creator, number, vr = MAKERS["siemens"].b_value
    values = iter([-1, 999999])

    def change(dataset: Dataset, _: int) -> None:
        dataset.private_block(group, creator, create=True).add_new(number, vr, next(values))

    make.classic(box, change=change)
    (study,) = scan([make.folder]).studies
    assert [one.b_value for one in study.series[0].instances] == [None, None]


@pytest.mark.parametrize("place", ["groups", "private sequence", "unassigned", "diffusion macro"])
@pytest.mark.parametrize("maker", MAKERS.values(), ids=list(MAKERS))
def test_functional_groups_of_enhanced_images_are_searched(make, box, maker, place):
    path = make.enhanced(box, Manufacturer=maker.manufacturer)
    dataset = dcmread(path)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        item = frame if place == "groups" else Dataset()
        for group in groups(maker):
            item.private_block(group, OTHER, create=True).add_new(0x01, "LO", "X")
        write_diffusion(item, maker)
        if place == "private sequence":
            frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [item])
        elif place == "unassigned":
            frame.UnassignedPerFrameConvertedAttributesSequence = [item]
        elif place == "diffusion macro":
            frame.MRDiffusionSequence = [item]
    dataset.save_as(path)
    frames = first_image(make).frames
    assert len(frames) == box.shape[0]
    assert {one.b_value for one in frames} == {1000.0}
    assert all(one.gradient == pytest.approx(DIRECTION) for one in frames)


def csa_header(is_csa2: bool, **elements: tuple[str, ...]) -> bytes:
    """Write a CSA header as Siemens does: each element with six items, of which the first ones have values."""
    count, surplus = 6, 6
    start = struct.pack("<4s4B", b"SV10", 4, 3, 2, 1) if is_csa2 else b""
    written = [start, struct.pack("<II", len(elements), 77)]
    for name, values in elements.items():
        items = count if values or not is_csa2 else 0
        written.append(struct.pack("<64si4s3i", name.encode(), len(values), b"FD", 4, items, 77))
        for number in range(items):
            text = values[number].encode() + b"\0" if number < len(values) else b""
            length = len(text)
            lengths = (length, length, 77, length) if is_csa2 else (length + surplus, length, 77, length)
            written.append(struct.pack("<4i", *lengths) + text + bytes(-length % 4))
    return b"".join(written)


@pytest.mark.parametrize("is_csa2", [True, False])
@pytest.mark.parametrize("blocks_of_others", [0, 3])
def test_the_csa_header_of_older_siemens_scanners(make, box, is_csa2, blocks_of_others):
    content = csa_header(
        is_csa2,
        EchoLinePosition=("64",),
        B_value=("1000",),
        DiffusionGradientDirection=tuple(f"{part:.8f}" for part in DIRECTION),
        Other=(),
    )

    def change(dataset: Dataset, _: int) -> None:
        for number in range(blocks_of_others):
            dataset.private_block(0x0029, f"{OTHER} {number}", create=True).add_new(0x10, "OB", b"something")
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", content)

    make.classic(box, Manufacturer="SIEMENS", change=change)
    image = first_image(make)
    assert image.b_value == 1000.0
    assert image.gradient == pytest.approx(DIRECTION)


@pytest.mark.parametrize("is_csa2", [True, False])
def test_a_csa_header_without_diffusion_or_damaged_has_no_b_value(is_csa2):
    assert csa_numbers(csa_header(is_csa2, EchoLinePosition=("64",), B_value=()), "B_value") == ()
    assert csa_numbers(b"", "B_value") == ()
    whole = csa_header(is_csa2, EchoLinePosition=("64",), B_value=("1000",))
    assert csa_numbers(whole, "B_value") == (1000.0,)
    for length in range(0, len(whole) - 1, 7):
        assert csa_numbers(whole[:length], "B_value") in ((), (1000.0,))
