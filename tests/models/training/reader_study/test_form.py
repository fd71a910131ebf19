"""The form in Chromium, opened from a disk: the scores that it shows and exports are those that Python computes."""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.labels import PAPER_LABELS
from models.training.reader_study.answer_key import Item, Key, MaskSource
from models.training.reader_study.answers import read_answers
from models.training.reader_study.form import form_page
from models.training.reader_study.likert_scale import BRANCHES, Judgement, Missing
from tests.support.node import wait_until

pytest.importorskip("playwright", reason="the browser is driven by playwright, of the extra glionode[test]")

SEQUENCES = ("T1CE", "FLAIR", "ADC")
ITEMS = ("aa", "bb", "cc")
KEY = Key("0123", 1, "m", "a", "f", SEQUENCES, tuple(Item(i, i, MaskSource.MODEL, None) for i in ITEMS), {})
_FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Any]:
    """Start Debian's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(tmp_path: Path, browser: Any) -> Iterator[Any]:
    """The form of three items of two slices each, open, with nothing answered and nothing kept."""
    pictures = tmp_path / "for-readers" / "pictures"
    pictures.mkdir(parents=True)
    for item, number in product(ITEMS, range(2)):
        Image.new("L", (90, 30), 60 * number + 60).save(pictures / f"{item}-{number:03d}.jpg")
        Image.new("RGBA", (90, 30)).save(pictures / f"{item}-{number:03d}.png")
    where = tmp_path / "for-readers" / "reading.html"
    labels = tuple(label.name for label in PAPER_LABELS)
    where.write_text(form_page("0123", SEQUENCES, labels, dict.fromkeys(ITEMS, 2), [ITEMS, ITEMS[::-1]]))
    with browser.new_context(viewport={"width": 1300, "height": 800}) as context:
        opened = context.new_page()
        opened.set_default_timeout(20_000)
        troubles: list[str] = []
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("console", lambda message: troubles.append(message.text))
        opened.on("request", lambda request: troubles.append(request.url) if "file:" not in request.url else None)
        opened.goto(where.as_uri())
        yield opened
        assert [trouble for trouble in troubles if not trouble.startswith("blob:")] == []


def judge(page: Any, judgement: Judgement) -> None:
    page.check(f"input[name=consistent][value={str(judgement.consistent).lower()}]")
    for sequence, missing in judgement.missing:
        page.check(f"input[name='missing {sequence}'][value={missing.value}]")
    page.check(f"input[name=includes_normal][value={str(judgement.includes_normal).lower()}]")


def exported(page: Any, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    target = path / download.value.suggested_filename
    download.value.save_as(target)
    return target


def test_a_reading_from_the_first_item_to_the_export(page: Any, tmp_path: Path) -> None:
    page.get_by_role("button", name="Reader B").click()
    given = {
        "cc": Judgement(True, tuple((name, Missing.NONE) for name in SEQUENCES), False),
        "bb": Judgement(
            False, (("T1CE", Missing.OVER_HALF), *((n, Missing.UNDER_QUARTER) for n in SEQUENCES[1:])), True
        ),
        "aa": Judgement(True, (*((n, Missing.NONE) for n in SEQUENCES[:2]), ("ADC", Missing.OVER_QUARTER)), True),
    }
    for number, (item, judgement) in enumerate(given.items(), 1):
        assert page.text_content("#place") == f"{number} of 3"
        assert page.get_attribute("#grey", "src") == f"pictures/{item}-000.jpg"
        # Not page.wait_for_function: it evaluates its condition by `eval`, which the page's own policy refuses.
        wait_until(
            lambda: page.evaluate(
                "() => ['grey', 'lines'].every((id) => document.getElementById(id).naturalWidth === 90)"
            ),
            "both pictures are loaded",
        )
        assert page.is_disabled("#next")
        judge(page, judgement)
        wait_until(lambda: page.text_content("#score") != "", "the score is shown")
        assert page.text_content("#score").startswith(f"Score {judgement.score}:")
        page.click("#next")
    assert page.is_visible("#done")
    assert "3 of 3" in page.text_content("#count")
    expected = {item: judgement.score for item, judgement in given.items()}
    for button in ("#json2", "#csv2"):
        reading = read_answers(exported(page, button, tmp_path), KEY)
        assert (reading.reader, dict(reading.scores)) == ("B", expected)


def test_answers_outlive_the_page_and_stay_with_their_reader(page: Any, tmp_path: Path) -> None:
    page.get_by_role("button", name="Reader A").click()
    judge(page, Judgement(True, tuple((name, Missing.UNDER_QUARTER) for name in SEQUENCES), False))
    page.click("#next")
    page.check("input[name=consistent][value=false]")  # half an answer
    page.reload()
    page.get_by_role("button", name="Reader A").click()
    assert page.text_content("#place") == "2 of 3"
    assert page.is_checked("input[name=consistent][value=false]")
    assert dict(read_answers(exported(page, "#json", tmp_path), KEY).scores) == {"aa": 4}
    page.reload()
    page.get_by_role("button", name="Reader B").click()
    assert page.text_content("#place") == "1 of 3"
    assert page.is_disabled("#next")


def test_the_other_branch_asks_anew(page: Any) -> None:
    page.get_by_role("button", name="Reader A").click()
    judge(page, Judgement(True, tuple((name, Missing.UNDER_QUARTER) for name in SEQUENCES), False))
    assert page.is_enabled("#next")
    page.check("input[name=consistent][value=false]")
    assert page.is_disabled("#next")
    assert page.locator("#second input:checked").count() == 0


def test_keys_turn_slices_and_never_an_answer(page: Any) -> None:
    page.get_by_role("button", name="Reader A").click()
    page.click("input[name=consistent][value=true]")
    page.keyboard.press("ArrowDown")
    assert page.text_content("#at") == "Slice 2 of 2"
    assert page.is_checked("input[name=consistent][value=true]")
    page.click("input[name='missing T1CE'][value=none]")
    page.keyboard.press("ArrowDown")
    assert page.is_checked("input[name='missing T1CE'][value=none]")
    assert page.text_content("#at") == "Slice 2 of 2"
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#lines", "src") == "pictures/aa-000.png"
    page.keyboard.press("c")
    assert page.is_hidden("#lines")
    assert page.is_visible("#grey")


def test_every_answer_scores_as_in_python(page: Any) -> None:
    """Compute all 2 x 3^3 x 2 scores with the page's own function."""
    judgements = [
        Judgement(consistent, tuple(zip(SEQUENCES, missing, strict=True)), includes_normal)
        for consistent, branch in BRANCHES.items()
        for missing in product(branch, repeat=3)
        for includes_normal in (False, True)
    ]
    answers = [
        {"consistent": each.consistent, "missing": dict(each.missing), "includes_normal": each.includes_normal}
        for each in judgements
    ]
    assert len(answers) == 108
    assert page.evaluate("(given) => given.map(scoreOf)", json.loads(json.dumps(answers))) == [
        j.score for j in judgements
    ]
