"""The measurements of a queue are of its first, its small and its last studies."""

import pytest

from benchmarks.queue import Done, Part, evaluate

PEAKS = [(100.5, 300.0), (107.0, 310.0), (150.0, 900.0)]


def jobs(*kinds: str) -> list[Done]:
    """Heads take 5 s, of which 4 s in the pipeline; others take 0.5 s."""
    made, now = [], 100.0
    for number, kind in enumerate(kinds):
        seconds, pipeline_s = (5.0, 4.0) if kind == "segmented" else (0.5, 0.1)
        made.append(Done(str(number), now, now + seconds, pipeline_s, kind))
        now += seconds
    return made


def test_parts_of_a_queue() -> None:
    result = evaluate(jobs("segmented", "segmented", "not_eligible", "not_eligible", "segmented"), 2, 1, PEAKS)
    assert (result.first, result.last) == (Part(2, 5.0, 1.0), Part(1, 5.0, 1.0))
    assert result.small == Part(2, 0.5, 0.4)
    assert (result.peak_first_mib, result.peak_mib) == (310.0, 900.0)


def test_a_head_that_was_not_segmented_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="not"):
        evaluate(jobs("segmented", "failed", "not_eligible"), 2, 0, PEAKS)
