"""What each series shows of a head whose shape is known."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.labels import ADC_ABNORMALITY, PAPER_LABELS, Role
from pipeline.coverage import Coverage, leave_out_unseen, measure_coverage, require_coverage
from pipeline.errors import HeadNotCovered
from pipeline.reported_labels import ReportedLabels
from pipeline.role_coverage import MarkedUnseen, RoleCoverage, Side, coverage_remarks
from pipeline.volume import Geometry, Matrix, Volume
from tests.support.head_volumes import AXIAL, SAGITTAL, TOP_MM, head

COMMON_GRID = Geometry.axial((41, 51, 41), (5.0, 5.0, 5.0), (0, 0, 0), "1.2.3")
SHIFTED: Matrix = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 400.0), (0.0, 0.0, 0.0, 1.0))


def cut(volume: Volume, axis: int, first: int, last: int) -> Volume:
    box = [slice(0, size) for size in volume.geometry.shape]
    box[axis] = slice(first, last)
    return Volume(volume.pixels[*box], volume.geometry.cropped((box[0], box[1], box[2])))


def without_values(volume: Volume, place: tuple[slice, ...], value: float) -> Volume:
    pixels = volume.pixels.copy()
    pixels[place] = value
    return replace(volume, pixels=pixels)


T1CE, FLAIR, ADC = head(SAGITTAL), head(AXIAL), head(AXIAL, masked=True)
ALL = slice(None)


def measured(
    t1ce: Volume = T1CE, flair: Volume = FLAIR, adc: Volume = ADC, to_series: Mapping[Role, Matrix] | None = None
) -> tuple[Coverage, dict[Role, RoleCoverage]]:
    found = measure_coverage({Role.ADC: adc, Role.FLAIR: flair, Role.T1CE: t1ce}, to_series or {})
    return found, {each.role: each for each in found.roles}


def reported(*thresholds: float) -> ReportedLabels:
    shown_by = tuple((label.defined_on,) for label in PAPER_LABELS)
    return ReportedLabels(PAPER_LABELS, (0, 1, 2), thresholds, shown_by, (), ())


def test_a_good_study_is_whole_although_its_series_show_different_parts_of_neck_and_skin() -> None:
    found, roles = measured()
    assert found.whole, roles
    assert found.seen_share == 1
    assert found.seen_on(COMMON_GRID, Role).all()
    assert coverage_remarks(found.roles, MarkedUnseen()) == ()
    require_coverage(found, dict.fromkeys(Role, "1.2"), 0.99)
    thick_t1ce = cut(FLAIR, 0, 1, 31)
    assert measured(t1ce=thick_t1ce)[0].whole, "all series axial"


def test_noise_in_the_air_of_an_adc_map_is_no_head() -> None:
    noise = np.random.default_rng(0).uniform(1, 3000, ADC.pixels.shape).astype(np.float32)
    noisy = replace(ADC, pixels=np.where(np.isfinite(ADC.pixels), ADC.pixels, noise))
    assert measured(adc=noisy)[0].whole


@pytest.mark.parametrize("blank", [False, True])
@pytest.mark.parametrize("role", [Role.FLAIR, Role.ADC])
def test_the_missing_top_is_named_in_millimetres(role: Role, blank: bool) -> None:
    # Slices 20 to 31: what is above the face between slices 19 and 20, at 35 mm, i.e. the top 50 mm of the head.
    whole, value = (FLAIR, 0.0) if role is Role.FLAIR else (ADC, np.nan)
    partial = without_values(whole, (slice(20, None), ALL, ALL), value) if blank else cut(whole, 0, 0, 20)
    found, roles = measured(flair=partial) if role is Role.FLAIR else measured(adc=partial)
    (side,) = roles[role].unseen_sides
    assert side.side is Side.TOP
    assert side.thickness_mm == pytest.approx(TOP_MM - 35, abs=5)
    assert 0.6 < roles[role].share_of_head < 0.95
    assert all(each.whole for other, each in roles.items() if other is not role)
    (remark,) = coverage_remarks(found.roles, MarkedUnseen())
    assert remark.roles == (role,)
    assert remark.text.startswith("The top ")
    assert f"not seen on {role}" in remark.text
    seen = found.seen_on(COMMON_GRID, [role])
    assert seen[20 + 6, 25, 20], "30 mm above the middle"
    assert not seen[20 + 8, 25, 20], "40 mm above it"
    assert found.seen_on(COMMON_GRID, set(Role) - {role}).all()


@pytest.mark.parametrize("blank", [False, True])
def test_a_t1ce_of_half_a_head_is_found_out_by_the_others(blank: bool) -> None:
    half = without_values(T1CE, (slice(0, 18), ALL, ALL), 0.0) if blank else cut(T1CE, 0, 18, 36)
    found, roles = measured(t1ce=half)
    assert roles[Role.T1CE].share_of_head == pytest.approx(0.5, abs=0.06)
    assert [each.side for each in roles[Role.T1CE].unseen_sides] == [Side.RIGHT]
    assert roles[Role.FLAIR].whole
    assert roles[Role.ADC].share_of_t1ce_head > 0.95
    with pytest.raises(HeadNotCovered, match=r"Series 1\.2\.7 \(T1CE\) shows 5\d % of the head .* the right 75 mm"):
        require_coverage(found, {Role.T1CE: "1.2.7", Role.FLAIR: "1", Role.ADC: "2"}, 0.7)


def test_a_narrow_field_of_view_is_seen() -> None:
    _, roles = measured(adc=cut(ADC, 2, 22, 42))
    assert {each.side for each in roles[Role.ADC].unseen_sides} == {Side.LEFT, Side.RIGHT}
    # The field is 70 mm wide, so 40 mm of the head's 150 are missing on either side.
    assert all(each.thickness_mm == pytest.approx(40, abs=5) for each in roles[Role.ADC].unseen_sides)


def test_a_hole_that_can_hide_a_tumour_is_no_whole_series() -> None:
    hole = (slice(14, 23), slice(28, 40), slice(26, 38))  # 45 x 42 x 42 mm inside the brain
    _, roles = measured(adc=without_values(ADC, hole, np.nan))
    assert not roles[Role.ADC].whole
    assert roles[Role.ADC].hidden_mm == pytest.approx(40, abs=9)
    (remark,) = coverage_remarks([roles[Role.ADC]], MarkedUnseen())
    assert remark.text.startswith("About ")
    few = without_values(ADC, (slice(14, 16), slice(28, 31), slice(26, 29)), np.nan)
    assert measured(adc=few)[1][Role.ADC].whole, "failed fits are few"


def test_a_series_elsewhere_shows_nothing_and_is_the_one_that_is_named() -> None:
    found, roles = measured(to_series={Role.FLAIR: SHIFTED})
    assert roles[Role.FLAIR].share_of_head == 0
    assert roles[Role.T1CE].share_of_head > 0.95
    with pytest.raises(HeadNotCovered, match=r"Series 1\.4 \(FLAIR\)"):
        require_coverage(found, {Role.T1CE: "1.3", Role.FLAIR: "1.4", Role.ADC: "1.5"}, 0.1)


def test_what_every_series_cuts_counts_as_unseen() -> None:
    """Slices 18 to 31 of the axial series begin 30 mm above the middle: the lower half is missing everywhere."""
    found, _ = measured(t1ce=cut(FLAIR, 0, 18, 32), flair=cut(FLAIR, 0, 18, 32), adc=cut(ADC, 0, 18, 32))
    assert all(each.unseen_sides[0].side is Side.BOTTOM for each in found.roles)
    assert found.seen_share < 0.6
    found, _ = measured(t1ce=cut(FLAIR, 0, 0, 14), flair=cut(FLAIR, 0, 0, 14), adc=cut(ADC, 0, 0, 14))
    assert all(each.unseen_sides[0].side is Side.TOP for each in found.roles)
    assert found.seen_share < 0.7


def test_a_label_is_left_out_where_its_own_series_shows_nothing_and_doubtful_where_another_does() -> None:
    found, _ = measured(adc=cut(ADC, 0, 0, 20))  # it ends at 35 mm
    probabilities = torch.zeros(3, *COMMON_GRID.shape)
    probabilities[:, 20:25, 20:25, 20:25] = probabilities[:, 30:35, 20:25, 20:25] = 0.6
    kept, marked = leave_out_unseen(probabilities, COMMON_GRID, reported(0.5, 0.5, 0.7), found)
    cube_ml = 25**3 / 1000
    assert marked.left_out_ml == pytest.approx((0, cube_ml, 0))
    assert marked.doubtful_ml == pytest.approx((cube_ml, 0, 0))
    assert (kept.sum(dim=(1, 2, 3)) / 0.6).tolist() == pytest.approx([250, 125, 250])
    texts = [remark.text for remark in coverage_remarks(found.roles, marked)]
    assert len(texts) == 3
    assert f"{cube_ml:.1f} ml of {PAPER_LABELS[0].title} lie where" in texts[1]
    assert f"{cube_ml:.1f} ml of {PAPER_LABELS[1].title} were marked" in texts[2]
    whole, nothing = leave_out_unseen(probabilities, COMMON_GRID, reported(0.5, 0.5, 0.5), measured()[0])
    assert whole is probabilities
    assert nothing == MarkedUnseen()


def test_an_inferred_label_is_left_out_where_the_series_that_it_is_inferred_from_shows_nothing() -> None:
    found = measure_coverage({Role.FLAIR: cut(FLAIR, 0, 0, 20), Role.T1: T1CE}, {})
    partial = ReportedLabels((ADC_ABNORMALITY,), (0,), (0.5,), ((Role.FLAIR, Role.T1),), (), ())
    probabilities = torch.full((1, *COMMON_GRID.shape), 0.6)
    kept, marked = leave_out_unseen(probabilities, COMMON_GRID, partial, found)
    assert not kept[0, 32:35].any(), "above the end of FLAIR, at 35 mm"
    assert kept[0, 20].any()
    assert marked.labels == (ADC_ABNORMALITY,)
    assert "ml of ADC abnormality were marked where" in coverage_remarks(found.roles, marked)[-1].text


@pytest.mark.parametrize("order", list(itertools.permutations([Role.ADC, Role.FLAIR, Role.T1])))
def test_without_t1ce_the_finest_series_is_the_one_that_the_others_are_compared_with(order: tuple[Role, ...]) -> None:
    volumes = {Role.ADC: ADC, Role.FLAIR: cut(FLAIR, 0, 0, 20), Role.T1: T1CE}
    found = measure_coverage({role: volumes[role] for role in order}, {})
    shares = {each.role: each for each in found.roles}
    assert (shares[Role.T1].whole, shares[Role.FLAIR].whole, shares[Role.ADC].whole) == (True, False, True)
    assert shares[Role.T1].share_of_t1ce_head == 1


def test_a_study_without_any_tissue_has_no_coverage() -> None:
    nothing = replace(T1CE, pixels=np.zeros_like(T1CE.pixels))
    _, roles = measured(t1ce=nothing)
    assert roles[Role.T1CE].share_of_head == 0
