"""The registry of labels: numbers and names belong to a label for ever."""

from models.labels import LABELS, PAPER_LABELS, find_label

NUMBERS = {
    "enhancing_tumour": 1,
    "adc_abnormality": 2,
    "flair_hyperintensity": 3,
    "tumour_core": 4,
    "whole_tumour": 5,
    "necrotic_core": 6,
    "resection_cavity": 7,
}


def test_numbers_stay() -> None:
    """Tracking UIDs are made of the names, and archives hold them: neither changes once a version has written it."""
    assert {label.name: label.number for label in LABELS} == NUMBERS


def test_labels_are_told_apart() -> None:
    """Titles are what viewers show, and colours what pictures show."""
    assert len({label.title for label in LABELS}) == len({label.colour_rgb for label in LABELS}) == len(LABELS)


def test_labels_are_found_by_name() -> None:
    """A name outside the registry is none."""
    assert [find_label(name) for name in NUMBERS] == list(LABELS)
    assert find_label("Enhancing tumour") is None
    assert LABELS[: len(PAPER_LABELS)] == PAPER_LABELS
