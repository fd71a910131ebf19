"""What was measured is read back as it was, whatever ended the run that measured it."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.training.evaluation.journal import SCORES_FILE, JournalBusy, JournalEntry, open_journal
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.overlays import Overlay
from models.training.evaluation.score import LabelScore

SCORES = (
    LabelScore("enhancing_tumour", 1 / 3, 2.0000000000000004, 0.1 + 0.2, 7.5, LesionScore(3, 2, 5, 1)),
    LabelScore("adc_abnormality", 1.0, 0.0, 0.0, 0.0, LesionScore(0, 0, 0, 0)),
)


PICTURE = Overlay(b"a picture", (4, 0, 7))
ENTRY = JournalEntry("one", SCORES, 2, None)


def test_a_case_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    with open_journal(tmp_path / "new") as journal:
        journal.keep("one", SCORES, 2, PICTURE)
        journal.keep("two", SCORES[:1], 0, None)
        assert journal.entry("one") == JournalEntry("one", SCORES, 2, PICTURE.slices)
    with open_journal(tmp_path / "new") as journal:
        assert (journal.entry("one"), journal.overlay("one")) == (
            JournalEntry("one", SCORES, 2, PICTURE.slices),
            PICTURE,
        )
        assert (journal.entry("two"), journal.overlay("two")) == (JournalEntry("two", SCORES[:1], 0, None), None)
        assert (journal.entry("three"), journal.overlay("three")) == (None, None)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_off_is_forgotten_and_the_next_is_whole(tmp_path: Path, cut: int) -> None:
    with open_journal(tmp_path) as journal:
        journal.keep("one", SCORES, 2, None)
        journal.keep("two", SCORES, 2, None)
    path = tmp_path / SCORES_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    with open_journal(tmp_path) as journal:
        assert (journal.entry("one"), journal.entry("two")) == (ENTRY, None)
        journal.keep("three", SCORES, 2, None)
    with open_journal(tmp_path) as journal:
        assert [journal.entry(name) for name in ("one", "two", "three")] == [
            ENTRY,
            None,
            replace(ENTRY, case="three"),
        ]


def test_two_do_not_write_at_once(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(JournalBusy, match="Another evaluation"), open_journal(tmp_path):
        pytest.fail("a second one was let in")
    with open_journal(tmp_path) as journal:
        assert journal.entry("one") is None
