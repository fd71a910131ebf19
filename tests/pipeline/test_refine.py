"""The brightness of a scan corrects the network where it is informative, and nowhere else."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit
from torch import Tensor

from models.labels import Role
from models.package import Refinement
from pipeline.measure import dice
from pipeline.refine import refine

SIZE = 40
BY_T1CE = Refinement((Role.T1CE,), 1.5)


def distance_from_middle() -> Tensor:
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)


def noisy(values: Tensor, seed: int = 0) -> Tensor:
    return values + 8 * torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))


TRUTH = distance_from_middle() < 8
ANSWER = torch.sigmoid((9 - distance_from_middle()) / 1.5)[None]
"""Probabilities of a network that finds the ball but draws it too large, with soft edges."""
SCAN = noisy(torch.where(TRUTH, 130.0, 80.0))[None]


def drawn(probabilities: Tensor) -> np.ndarray:
    return (probabilities[0] >= 0.5).numpy()


@pytest.mark.parametrize("darker", [False, True])
def test_an_outline_moves_to_the_edge_in_the_scan(darker: bool) -> None:
    scan = 300 - SCAN if darker else SCAN
    refined = refine(ANSWER, scan, (Role.T1CE,), (BY_T1CE,))
    assert refined.shape == ANSWER.shape
    assert dice(drawn(ANSWER), TRUTH.numpy()) < 0.85
    assert dice(drawn(refined), TRUTH.numpy()) > 0.95


def test_unsure_voxels_do_not_count_for_the_distribution_of_the_lesion() -> None:
    """The network includes a gyrus as large as the oedema beside it, and is only surer of the oedema."""
    beside = (distance_from_middle() < 11) & ~TRUTH & (torch.arange(SIZE) < SIZE / 2)
    answer = torch.where(TRUTH, 0.995, torch.where(beside, 0.8, 0.01))[None]
    scan = noisy(torch.where(TRUTH, 150.0, torch.where(distance_from_middle() < 16, 110.0, 80.0)))[None]
    assert beside.sum() > 0.7 * TRUTH.sum()
    assert dice(drawn(answer), TRUTH.numpy()) < 0.75
    assert dice(drawn(refine(answer, scan, (Role.T1CE,), (BY_T1CE,))), TRUTH.numpy()) > 0.95


def test_outlines_move_but_no_lesion_is_added() -> None:
    """Of spots as bright as the lesion, one that touches it and one that was suspected become part of the label."""
    slices, rows, columns = torch.meshgrid(*(torch.arange(SIZE),) * 3, indexing="ij")
    middle = (slices - 20).abs().lt(3) & (rows - 20).abs().lt(3)
    touching = middle & (columns >= 26) & (columns < 31)
    apart = middle & (columns >= 34) & (columns < 38)
    suspected = middle & (columns >= 2) & (columns < 6)
    spots = touching | apart | suspected
    answer = torch.where(suspected, 0.35, torch.where(touching | apart, 0.25, ANSWER[0]))[None]
    scan = noisy(torch.where(TRUTH | spots, 130.0, 80.0))[None]
    refined = refine(answer, scan, (Role.T1CE,), (BY_T1CE,))[0]
    assert (refined[touching] >= 0.5).float().mean() > 0.9
    assert (refined[suspected] >= 0.5).float().mean() > 0.9
    assert not (refined[apart] >= 0.5).any()


def test_each_label_has_its_own_refinement() -> None:
    both = refine(torch.cat((ANSWER, ANSWER)), SCAN, (Role.T1CE,), (None, BY_T1CE))
    assert torch.equal(both[0], ANSWER[0])
    assert torch.equal(both[1:], refine(ANSWER, SCAN, (Role.T1CE,), (BY_T1CE,)))


def test_the_channel_of_the_named_role_is_used() -> None:
    noise = noisy(torch.zeros(1, SIZE, SIZE, SIZE), seed=1)
    found = refine(ANSWER, torch.cat((noise, SCAN)), (Role.FLAIR, Role.T1CE), (BY_T1CE,))
    assert torch.equal(found, refine(ANSWER, SCAN, (Role.T1CE,), (BY_T1CE,)))


def test_of_two_channels_the_one_that_is_there_serves_alone() -> None:
    by_both = Refinement((Role.FLAIR, Role.T1CE), BY_T1CE.weight)
    alone = refine(ANSWER, SCAN, (Role.T1CE,), (BY_T1CE,))
    assert torch.equal(refine(ANSWER, SCAN, (Role.T1CE,), (by_both,)), alone)
    assert not torch.equal(alone, ANSWER)
    assert torch.equal(refine(ANSWER, SCAN, (Role.ADC,), (by_both,)), ANSWER)


def test_a_scan_that_shows_no_difference_changes_nothing() -> None:
    even = torch.full_like(SCAN, 90.0)
    torch.testing.assert_close(refine(ANSWER, even, (Role.T1CE,), (BY_T1CE,)), ANSWER, atol=1.1e-3, rtol=0)
    # Noise alone moves single voxels, not the outline.
    by_noise = refine(ANSWER, noisy(even), (Role.T1CE,), (BY_T1CE,))
    assert dice(drawn(by_noise), drawn(ANSWER)) > 0.95


def test_voxels_without_a_value_keep_the_answer_of_the_network() -> None:
    t1ce, adc = SCAN.clone(), 10 * SCAN
    t1ce[:, :20] = torch.nan
    adc[:, :, :20] = 0  # failed fits
    for channel, role, missing in ((t1ce, Role.T1CE, np.s_[:, :20]), (adc, Role.ADC, np.s_[:, :, :20])):
        refined = refine(ANSWER, channel, (role,), (Refinement((role,), 1.5),))
        assert torch.equal(refined[missing], ANSWER[missing])
        assert not torch.equal(refined, ANSWER)
        assert torch.isfinite(refined).all()
    t1ce[:] = torch.nan
    assert torch.equal(refine(ANSWER, t1ce, (Role.T1CE,), (BY_T1CE,)), ANSWER)


def test_two_channels_separate_what_neither_separates_alone() -> None:
    """Both are bright inside; outside, one is bright where the other is dark."""
    half = torch.arange(SIZE)[:, None, None].expand(SIZE, SIZE, SIZE) % 2 == 0
    adc = noisy(torch.where(TRUTH | half, 1500.0, 800.0), seed=1)
    flair = noisy(torch.where(TRUTH | ~half, 150.0, 80.0), seed=2)
    channels, roles = torch.stack((adc, flair)), (Role.ADC, Role.FLAIR)
    together = refine(ANSWER, channels, roles, (Refinement(roles, 1.0),))
    alone = [refine(ANSWER, channels, roles, (Refinement((role,), 1.0),)) for role in roles]
    assert dice(drawn(together), TRUTH.numpy()) > 0.93
    assert max(dice(drawn(each), TRUTH.numpy()) for each in alone) < 0.9


def test_low_probabilities_without_a_lesion_stay_low() -> None:
    suspicion = torch.full((1, SIZE, SIZE, SIZE), 1e-4)
    suspicion[0, 18:22, 18:22, 18:22] = 0.15
    assert float(refine(suspicion, noisy(torch.full_like(SCAN, 80.0)), (Role.T1CE,), (BY_T1CE,)).max()) < 0.4


def test_probabilities_without_a_possible_lesion_are_unchanged() -> None:
    nothing = torch.full((1, SIZE, SIZE, SIZE), 0.01)
    assert torch.equal(refine(nothing, SCAN, (Role.T1CE,), (BY_T1CE,)), nothing)


def test_refinement_is_deterministic_and_leaves_its_input_unchanged() -> None:
    before = ANSWER.clone()
    first, again = (refine(ANSWER, SCAN, (Role.T1CE,), (BY_T1CE,)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(ANSWER, before)


def plain_refine(answer: np.ndarray, scans: list[np.ndarray], known: np.ndarray, weight: float) -> np.ndarray:
    """One label's refinement as its description reads, over the whole grid and without torch."""
    used = ndimage.maximum_filter(answer > 0.02, 13, mode="constant") & known
    if not used.any():
        return answer
    count = {1: 64, 2: 32}[len(scans)]
    bins = []
    for scan in scans:
        low, high = np.quantile(scan[used], (0.002, 0.998))
        scaled = (scan[used] - low) / max(float(high - low), 1e-6) * count
        bins.append(np.clip(scaled, 0, count - 1).astype(int))
    clipped = np.clip(answer[used], 1e-3, np.float32(1) - np.float32(1e-3)).astype(float)
    prior = np.log(clipped / (1 - clipped))
    logits = prior
    for _ in range(2):
        surest = np.quantile(logits[logits > 0], 0.6) if (logits > 0).any() else 0.0
        counts = []
        for weights in (expit(logits - surest), expit(-logits)):
            histogram = np.zeros((count,) * len(scans))
            np.add.at(histogram, tuple(bins), weights)
            counts.append(ndimage.gaussian_filter(histogram, 0.04 * count, mode="nearest"))
        around = counts[1] / max(counts[1].sum(), 1e-6)
        lesion = (counts[0] + 100 * around) / (counts[0].sum() + 100)
        floor = 0.0128 / lesion.size
        logits = prior + weight * np.clip(np.log((lesion + floor) / (around + floor)), -3, 3)[tuple(bins)]
    corrected = answer.copy()
    corrected[used] = expit(logits)
    parts, number = ndimage.label(corrected >= 0.5, np.ones((3, 3, 3)))
    for part in range(1, number + 1):
        if not (answer[parts == part] >= 0.3).any():
            corrected[parts == part] = answer[parts == part]
    return corrected


def suspicion(*places: tuple[int, int, int]) -> Tensor:
    """Probabilities of lesions of one voxel."""
    answer = torch.full((1, SIZE, SIZE, SIZE), 0.001)
    for place in places:
        answer[(0, *place)] = 0.9
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        ANSWER.roll((-17, 17), (1, 3)),  # the lesion goes on at the opposite ends of the grid
        suspicion((20, 20, 20)),
        suspicion((0, 0, 0), (SIZE - 1, SIZE - 1, SIZE - 1)),
        suspicion((0, 10, SIZE - 1), (30, 0, 3)),
        torch.full((1, SIZE, SIZE, SIZE), 0.6),
        torch.full((1, SIZE, SIZE, SIZE), 0.021),
    ],
)
@pytest.mark.parametrize("roles", [(Role.T1CE,), (Role.ADC, Role.FLAIR)])
@pytest.mark.parametrize("even", [False, True])
def test_the_result_is_that_of_the_description_over_the_whole_grid(
    answer: Tensor, roles: tuple[Role, ...], even: bool
) -> None:
    scans = torch.cat([torch.full_like(SCAN, 80.0) if even else noisy(SCAN, seed) for seed in range(len(roles))])
    scans[0, 18:20, :, 5] = torch.nan
    scans[-1, :3] = torch.nan
    scans[0, 25, 20:30] = 0  # failed fits, if it is an ADC map
    known = torch.isfinite(scans).all(0) & (torch.tensor(roles[0] is not Role.ADC) | (scans[0] != 0))
    found = refine(answer, scans, roles, (Refinement(roles, 1.5),))[0].numpy()
    expected = plain_refine(answer[0].numpy(), list(scans.numpy()), known.numpy(), 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
