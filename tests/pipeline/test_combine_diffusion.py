"""An ADC map is computed from two weightings that came as series apart, if they fit each other."""

from dataclasses import replace

import numpy as np
import pytest

from models.labels import Role
from pipeline.choose import NotEligible, Selected, choose, explain, load_rules
from pipeline.combine_diffusion import combine_diffusion
from pipeline.read import find_stack, read_volume
from pipeline.remarks import RemarkKind
from pipeline.scan import scan
from pipeline.study import Series
from tests.support.series_headers import make_series, study


@pytest.fixture(scope="module")
def rules():
    return load_rules()


def weighting(number: int, b_value: float | None, description: str = "ep2d_diff", **changes) -> Series:
    return make_series(number, description, "DIFF", b_value=b_value, acquired_at="20240101100500", **changes)


REST = weighting(5, 0.0)
STRONG = weighting(6, 1000.0)
TRACE = weighting(6, 1000.0, "ep2d_diff_TRACEW", image_type=("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"))


def source(rules, *series: Series) -> list[int | None]:
    """Return the numbers of the series that ADC is computed from."""
    chosen = choose(study(*series), (Role.ADC,), rules)
    return [one.series_number for one in chosen.series(Role.ADC).joined] if isinstance(chosen, Selected) else []


def reason(rules, *series: Series, **settings) -> str:
    chosen = choose(study(*series), (Role.ADC,), rules, **settings)
    assert isinstance(chosen, NotEligible)
    return chosen.reason


@pytest.mark.parametrize("strong", [STRONG, TRACE, replace(STRONG, series_number=5)])
def test_two_weightings_are_one_source(rules, strong):
    chosen = choose(study(REST, strong), (Role.ADC,), rules)
    assert isinstance(chosen, Selected)
    (choice,) = chosen.choices
    assert choice.series.series_instance_uid == strong.series_instance_uid
    assert {one.series_instance_uid for one in choice.series.joined} == {"1.2.5", "1.2.6"}
    assert len(choice.series.instances) == 60
    assert choice.remarks[0].kind is RemarkKind.JOINED
    assert "computed" in choice.why[0]


def test_directions_in_series_of_their_own_all_count(rules):
    axes = {6: (1.0, 0.0, 0.0), 7: (0.0, 1.0, 0.0), 8: (0.0, 0.0, 1.0)}
    directions = [weighting(number, 1000.0, gradient=axis) for number, axis in axes.items()]
    assert source(rules, REST, *directions) == [5, 6, 7, 8]
    chosen = choose(study(REST, *directions), (Role.ADC,), rules)
    assert isinstance(chosen, Selected)
    series = chosen.series(Role.ADC)
    # The slices of the map refer to one series, and that is the one whose UID it has.
    slices = find_stack(series, Role.ADC).frames
    assert {frame.instance.series_instance_uid for frame in slices} == {series.series_instance_uid}


def test_what_was_measured_together_is_taken(rules):
    again = [weighting(15, 0.0), weighting(16, 1000.0)]
    again = [
        replace(one, instances=tuple(replace(each, acquired_at="20240101101200") for each in one.instances))
        for one in again
    ]
    assert source(rules, REST, STRONG, *again) == [15, 16]


def test_a_map_or_a_whole_series_goes_before(rules):
    adc = make_series(9, "ep2d_diff_ADC", "DIFF", image_type=("DERIVED", "PRIMARY", "DIFFUSION", "ADC"))
    whole = replace(
        STRONG, series_number=10, instances=(*REST.instances, *STRONG.instances), series_instance_uid="1.2.10"
    )
    for best in (adc, whole):
        chosen = choose(study(REST, STRONG, best), (Role.ADC,), rules)
        assert isinstance(chosen, Selected)
        assert chosen.series(Role.ADC) is best


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"frame_of_reference_uid": "1.9"}, "frames of reference differ"),
        ({"step_mm": 4.0}, "do not stand at the same places"),
        ({"slices": 29}, "do not stand at the same places"),
        ({"pixel_spacing_mm": (1.8, 1.8)}, "do not stand at the same places"),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.99, 0.1411)}, "do not stand at the same places"),
        ({"echo_time_ms": 60.0}, "echo times differ"),
        ({"acquired_at": "20240101150000"}, "not measured together"),
    ],
)
def test_what_does_not_fit_is_said(rules, changes, why):
    settings = {"acquired_at": "20240101100500"} | changes
    other = make_series(6, "ep2d_diff", "DIFF", b_value=1000.0, **settings)
    said = reason(rules, REST, other)
    assert said.startswith(
        "no ADC map among 2 series; series 5 (1.2.5) has b = 0 and series 6 (1.2.6) has b around 1000"
    )
    assert why in said


@pytest.mark.parametrize(
    ("description", "image_type"),
    [
        ("ep2d_diff_eADC", ("DERIVED", "PRIMARY", "DIFFUSION", "EADC")),
        ("ep2d_diff_FA", ("DERIVED", "PRIMARY", "DIFFUSION", "FA")),
        ("ep2d_diff", ("DERIVED", "PRIMARY", "DIFFUSION", "EXP")),
        ("Exponential ADC", ("DERIVED", "SECONDARY")),
    ],
)
def test_maps_are_never_combined(rules, description, image_type):
    exponential = weighting(6, 1000.0, description, image_type=image_type)
    assert source(rules, REST, exponential) == []


def test_the_weightings_that_are_missing_are_named(rules):
    assert "it has b = 1000 only" in reason(rules, STRONG)
    assert "it has b = 0, 2500 only" in reason(
        rules, replace(REST, instances=(*REST.instances, *weighting(5, 2500.0).instances))
    )
    assert "its headers give no b-value" in reason(rules, weighting(5, None))
    assert "choose.derive_adc is off" in reason(rules, REST, STRONG, derive_adc=False)


def test_it_is_explained(rules):
    for one in explain(study(REST, STRONG), rules):
        assert one.note == "there is no ADC map; one can be computed from series 5 and series 6 together"


def test_the_map_has_the_values_and_the_frames_of_the_weighted_images(make, box, rules):
    """ADC = ln(S0 / S1) / (b1 - b0), on the weighted series."""
    rest, adc = 4000.0, 800.0
    for number, (name, b_value) in enumerate((("ep2d_diff_b0", 0.0), ("ep2d_diff_b1000", 1000.0)), start=5):
        pixels = np.full(box.shape, round(rest * np.exp(-b_value * adc * 1e-6)))
        make.classic(
            *(box, name),
            pixels=pixels,
            SeriesNumber=number,
            DiffusionBValue=b_value,
            EchoTime=87,
            first_file=100 * number,
        )
    # The chooser refuses series of few images; the reader does not.
    (both,) = scan([make.folder]).studies
    small = {one.series_number: one for one in both.series}
    combined = combine_diffusion(both.series)
    assert isinstance(combined, Series)
    volume = read_volume(combined, Role.ADC)
    np.testing.assert_allclose(volume.pixels, adc, atol=1)
    assert {frame.sop_instance_uid for frame in volume.frames} == {one.sop_instance_uid for one in small[6].instances}
    assert combined.series_instance_uid == small[6].series_instance_uid
