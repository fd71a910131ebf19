"""What was measured is read back as it was, whatever ended the run that measured it."""

from pathlib import Path

import pytest

from models.training.evaluation.journal import SCORES_FILE, JournalBusy, open_journal
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import LabelScore

SCORES = (
    LabelScore("enhancing_tumour", 1 / 3, 2.0000000000000004, 0.1 + 0.2, 7.5, LesionScore(3, 2, 5, 1)),
    LabelScore("adc_abnormality", 1.0, 0.0, 0.0, 0.0, LesionScore(0, 0, 0, 0)),
)


def test_a_case_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    with open_journal(tmp_path / "new") as journal:
        journal.keep("one", SCORES, b"a picture")
        journal.keep("two", SCORES[:1], None)
        assert journal.scores("one") == SCORES
    with open_journal(tmp_path / "new") as journal:
        assert (journal.scores("one"), journal.picture("one")) == (SCORES, b"a picture")
        assert (journal.scores("two"), journal.picture("two")) == (SCORES[:1], None)
        assert (journal.scores("three"), journal.picture("three")) == (None, None)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_off_is_forgotten_and_the_next_is_whole(tmp_path: Path, cut: int) -> None:
    with open_journal(tmp_path) as journal:
        journal.keep("one", SCORES, None)
        journal.keep("two", SCORES, None)
    path = tmp_path / SCORES_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    with open_journal(tmp_path) as journal:
        assert (journal.scores("one"), journal.scores("two")) == (SCORES, None)
        journal.keep("three", SCORES, None)
    with open_journal(tmp_path) as journal:
        assert [journal.scores(name) for name in ("one", "two", "three")] == [SCORES, None, SCORES]


def test_two_do_not_write_at_once(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(JournalBusy, match="another evaluation"), open_journal(tmp_path):
        pytest.fail("a second one was let in")
    with open_journal(tmp_path) as journal:
        assert journal.scores("one") is None
