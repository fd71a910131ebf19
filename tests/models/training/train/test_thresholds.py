"""The threshold nearest 0.5 wins unless another is clearly better."""

from models.training.train.thresholds import CANDIDATES, best_threshold


def test_a_threshold_nearer_to_a_half_wins_unless_it_costs_half_a_percent() -> None:
    at = {0.25: 0.746, 0.3: 0.744, 0.35: 0.736}
    means = [at.get(candidate, 0.5) for candidate in CANDIDATES]
    assert best_threshold([means, means], 0.5) == 0.3
    assert best_threshold([], 0.45) == 0.45
