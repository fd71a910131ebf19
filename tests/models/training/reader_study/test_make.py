"""A reader study is blinded: both masks of each case, an order for each reader, and the key in a place of its own."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.reader_study.answer_key import Key, MaskSource, read_key
from models.training.reader_study.case_pictures import slices_to_show
from models.training.reader_study.make import ReaderStudySettings, draw_items, make_study
from models.training.reader_study.reading_order import MOST_APART, reading_order
from tests.support.ball_dataset import BallCase, write_ball_dataset
from tests.support.paths import ROOT

CPU = torch.device("cpu")
LEFT, RIGHT = ((20.0, 24.0, 30.0), 5.0), ((16.0, 20.0, 11.0), 4.0)
"""The patient's left is at higher columns."""


def test_items_are_both_masks_of_each_case_and_some_twice() -> None:
    cases = [f"case {number}" for number in range(20)]
    items = draw_items(cases, 0.25, Random(1))
    once = [item for item in items if item.repeat_of is None]
    assert sorted((item.case_id, item.source) for item in once) == sorted((c, s) for c in cases for s in MaskSource)
    twice = {item.item_id: item for item in items}
    again = [item for item in items if item.repeat_of is not None]
    assert len(again) == 10
    assert len(twice) == len(items) == 50
    for item in again:
        first = twice[str(item.repeat_of)]
        assert (first.case_id, first.source, first.repeat_of) == (item.case_id, item.source, None)
    assert items != draw_items(cases, 0.25, Random(2))
    assert items == draw_items(cases, 0.25, Random(1))


@pytest.mark.parametrize("cases", [1, 7, 30])
def test_a_case_comes_again_only_after_others(cases: int) -> None:
    items = draw_items([str(number) for number in range(cases)], 0.3, Random(5))
    case_of = {item.item_id: item.case_id for item in items}
    order = reading_order(items, Random(6))
    assert sorted(order) == sorted(case_of)
    gaps, seen = [], {}
    for place, item in enumerate(order):
        if case_of[item] in seen:
            gaps.append(place - seen[case_of[item]] - 1)
        seen[case_of[item]] = place
    apart = min(MOST_APART, cases // 2)
    assert sum(gap >= apart for gap in gaps) >= 0.8 * len(gaps)
    assert order != reading_order(items, Random(7)) or cases == 1


@pytest.mark.parametrize("cases", [1, 7, 30])
@pytest.mark.parametrize("seed", [6, 7])
def test_a_repeat_comes_after_what_it_repeats(cases: int, seed: int) -> None:
    items = draw_items([str(number) for number in range(cases)], 1, Random(5))
    order = reading_order(items, Random(seed))
    pairs = [(item.repeat_of, item.item_id) for item in items if item.repeat_of is not None]
    assert len(pairs) == 2 * cases
    assert [pair for pair in pairs if order.index(pair[0]) > order.index(pair[1])] == []


def test_a_seed_draws_the_same_items_in_every_process() -> None:
    """The order of sets of strings differs from process to process and depends on PYTHONHASHSEED."""
    program = (
        "from random import Random; from models.training.reader_study.make import draw_items;"
        "print(draw_items(['one', 'two', 'three'], 0.5, Random(4)))"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert drawn == {f"{draw_items(['one', 'two', 'three'], 0.5, Random(4))}\n"}


def test_both_masks_of_a_case_show_the_same_slices() -> None:
    some, other = np.zeros((3, 40, 8, 8), bool), np.zeros((3, 40, 8, 8), bool)
    some[0, 10, 2, 2] = other[2, 20, 3, 3] = True
    assert slices_to_show((some, other), 100) == tuple(range(8, 23))
    assert slices_to_show((some, other), 4) == (8, 13, 17, 22)
    nothing = np.zeros((3, 40, 8, 8), bool)
    assert len(slices_to_show((nothing, nothing), 100)) == 8
    some[0, 39, 0, 0] = True
    assert slices_to_show((some, other), 100)[-1] == 39


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the pictures in the order in which they are saved."""
    names: list[str] = []
    real = Image.Image.save

    def save(self: Image.Image, path: Path, **options: Any) -> None:
        names.append(path.name)
        real(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    return names


@pytest.fixture
def study(
    high_adc_network: None,
    saved: list[str],
    make_package: Callable[..., ModelPackage],
    tmp_path: Path,
) -> tuple[Path, Key]:
    """Two cases: in one the model sees a lesion on the left, and the person drew one on the right."""
    dataset = write_ball_dataset(tmp_path / "set", BallCase((LEFT,), (RIGHT,)), BallCase((LEFT, RIGHT)))
    settings = ReaderStudySettings(repeats=0.5, readers=2, slices=5, seed=123_456_789_123)
    seen: list[tuple[int, int]] = []
    key = make_study(
        make_package(), dataset, Split.TEST, settings, CPU, tmp_path / "study", lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]
    return tmp_path / "study", key


def test_no_file_for_readers_reveals_whose_mask_it_shows(study: tuple[Path, Key]) -> None:
    folder, key = study
    assert read_key(folder) == key
    given = folder / "for-readers"
    names = {path.name for path in (given / "pictures").iterdir()}
    assert names == {f"{item.item_id}-{n:03d}.{end}" for item in key.items for n in range(5) for end in ("jpg", "png")}
    page = (given / "reading.html").read_text()
    secrets = {
        *(item.case_id for item in key.items),
        *MaskSource,
        str(key.seed),
        key.model,
        key.weights_sha256,
        "repeat_of",
    }
    assert [secret for secret in secrets if f'"{secret}"' in page or (len(secret) > 8 and secret in page)] == []
    for path in (given / "pictures").iterdir():
        with Image.open(path) as picture:
            assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "transparency"}
    assert "http:" not in page
    assert "https:" not in page


def test_times_and_order_of_the_files_reveal_nothing(study: tuple[Path, Key], saved: list[str]) -> None:
    folder, key = study
    given = folder / "for-readers"
    assert {path.stat().st_mtime_ns for path in (given, *given.rglob("*"))} == {946_684_800 * 10**9}
    # Zip archives and some file systems list files as they were made.
    for case in {item.case_id for item in key.items}:
        own = [item.item_id for item in key.items if item.case_id == case]
        assert list(dict.fromkeys(name[:8] for name in saved if name[:8] in own)) == own
    for item in key.items:
        others = [other.item_id for other in key.items if other.case_id == item.case_id]
        for number in range(5):
            (grey,) = {(given / "pictures" / f"{name}-{number:03d}.jpg").read_bytes() for name in others}
            assert grey
            lines = (given / "pictures" / f"{item.item_id}-{number:03d}.png").read_bytes()
            assert set(chunks(lines)) <= {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def chunks(png: bytes) -> Iterator[bytes]:
    """Return the types of a PNG's chunks: length, type, content, checksum, from the eighth byte."""
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8]
        at += 12 + length


def sides(folder: Path, item_id: str, panel: int) -> tuple[bool, bool]:
    """Return whether contours lie in the left and the right half of a panel, in any of the slices."""
    found = np.zeros(2, bool)
    for path in sorted((folder / "for-readers" / "pictures").glob(f"{item_id}-*.png")):
        drawn = np.asarray(Image.open(path).convert("RGBA"))[..., 3] > 0
        width = (drawn.shape[1] + 4) // 3
        part = drawn[:, panel * width : (panel + 1) * width - 4]
        found |= [half.any() for half in np.array_split(part, 2, axis=1)]
    return bool(found[0]), bool(found[1])


def test_each_item_shows_the_mask_that_its_key_says(study: tuple[Path, Key]) -> None:
    """On an axial slice the patient's right is at the left of the picture."""
    folder, key = study
    by_case: dict[str, dict[MaskSource, tuple[bool, bool]]] = {}
    for item in key.items:
        shown = {sides(folder, item.item_id, panel) for panel in range(3)}
        assert len(shown) == 1  # each sequence shows the label that is defined on it, here all the same
        by_case.setdefault(item.case_id, {})[item.source] = shown.pop()
    apart = {MaskSource.MODEL: (False, True), MaskSource.MANUAL: (True, False)}
    both = dict.fromkeys(MaskSource, (True, True))
    assert sorted(by_case.values(), key=str) == sorted([apart, both], key=str)


def test_contours_have_the_colour_of_the_label_of_their_sequence(study: tuple[Path, Key]) -> None:
    folder, key = study
    path = folder / "for-readers" / "pictures" / f"{key.items[0].item_id}-002.png"
    drawn = np.asarray(Image.open(path).convert("RGBA"))
    width = (drawn.shape[1] + 4) // 3
    by_role = {label.defined_on.value: label.colour_rgb for label in PAPER_LABELS}
    for number, sequence in enumerate(key.sequences):
        panel = drawn[:, number * width : (number + 1) * width - 4]
        colours = panel[panel[..., 3] > 0][:, :3].astype(int)
        assert np.abs(colours - by_role[sequence]).max() <= 8  # of 16 colours in all


@pytest.mark.usefixtures("high_adc_network")
def test_a_case_without_an_optional_channel_is_shown_with_what_it_has(
    make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    """Its panel is black, and its label is drawn on T1CE. Cases that lack a label stay out."""
    lacks = BallCase((LEFT,), lacks=(Role.FLAIR,)), BallCase((RIGHT,), lacks=(PAPER_LABELS[0].name,))
    dataset = write_ball_dataset(tmp_path / "set", *lacks)
    settings = ReaderStudySettings(repeats=0, slices=5, seed=1)
    package, out = make_package(optional=(Role.FLAIR,)), tmp_path / "study"
    key = make_study(package, dataset, Split.TEST, settings, CPU, out, lambda *_: None)
    assert {item.case_id for item in key.items} == {case.case_id for case in dataset.cases if len(case.labels) == 3}
    pictures = out / "for-readers" / "pictures"
    base = np.asarray(Image.open(next(pictures.glob("*-002.jpg"))).convert("L"))
    lines = np.asarray(Image.open(next(pictures.glob("*-002.png"))).convert("RGBA"))
    width = (base.shape[1] + 4) // 3
    panels = {name: slice(place * width, (place + 1) * width - 4) for place, name in enumerate(key.sequences)}
    middle = slice(base.shape[0] // 4, base.shape[0] // 2)  # apart from the letters at the edges
    inner = {name: slice(panel.start + 30, panel.stop - 30) for name, panel in panels.items()}
    assert base[middle, inner["FLAIR"]].max() < 10
    assert base[middle, inner["ADC"]].max() > 50
    assert not lines[:, panels["FLAIR"], 3].any()
    assert lines[:, panels["T1CE"], 3].any()


@pytest.mark.usefixtures("high_adc_network")
def test_a_study_is_random_unless_a_seed_is_given(
    make_package: Callable[..., ModelPackage],
    tmp_path: Path,
) -> None:
    dataset, package = write_ball_dataset(tmp_path / "set", BallCase((LEFT,))), make_package()

    def make(folder: str, seed: int | None) -> Key:
        settings = ReaderStudySettings(slices=1, seed=seed)
        return make_study(package, dataset, Split.TEST, settings, CPU, tmp_path / folder, lambda *_: None)

    one, other = make("one", None), make("other", None)
    assert one.seed != other.seed
    assert not {item.item_id for item in one.items} & {item.item_id for item in other.items}
    assert make("again", one.seed) == one


@pytest.mark.usefixtures("high_adc_network")
def test_what_cannot_be_shown_is_refused(
    make_package: Callable[..., ModelPackage],
    tmp_path: Path,
) -> None:
    dataset = write_ball_dataset(
        tmp_path / "set", BallCase((LEFT,)), BallCase((RIGHT,), drawn_by={PAPER_LABELS[0].name: Annotator.NODE})
    )
    package = make_package()

    def make(settings: ReaderStudySettings, split: Split = Split.TEST, out: Path = tmp_path / "new") -> Key:
        return make_study(package, dataset, split, settings, CPU, out, lambda *_: None)

    with pytest.raises(DatasetBroken, match=r"2 cases were requested, and .* has 1 in which"):
        make(ReaderStudySettings(cases=2))
    with pytest.raises(DatasetBroken, match="no case for validation in which a person drew every label"):
        make(ReaderStudySettings(), Split.VALIDATION)
    with pytest.raises(DatasetBroken, match="already holds files"):
        make(ReaderStudySettings(), out=dataset.folder)
    assert not (tmp_path / "new").exists()
