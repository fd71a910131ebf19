"""The series that one acquisition was split into are joined; two acquisitions never are."""

import random
from dataclasses import replace

import pytest

from models.labels import Role
from pipeline.choose import Selected, choose, explain, load_rules
from pipeline.join import join_series
from pipeline.read import find_stack
from pipeline.remarks import RemarkKind
from pipeline.study import Series
from tests.support.series_headers import make_series, part, study

T1CE = make_series(7, "t1_mprage_KM", "T1", slices=176, step_mm=1.0, acquisition_type="3D", slice_thickness_mm=1.0)
HALVES = (range(88), range(88, 176))


def timed(whole: Series, seconds_per_image: float, order: str) -> Series:
    """Return a series whose images have times of their own, measured in ascending order or every other one first."""
    count = len(whole.instances)
    places = [*range(count)] if order == "ascending" else [*range(0, count, 2), *range(1, count, 2)]
    times = {place: seconds_per_image * turn for turn, place in enumerate(places)}
    images = tuple(
        replace(image, acquired_at=f"2024010110{int(times[place]) // 60:02d}{times[place] % 60:06.3f}".replace(".", ""))
        for place, image in enumerate(whole.instances)
    )
    return replace(whole, instances=images)


def joined(*parts: Series) -> list[int]:
    """Return the numbers of images of the series of a study after joining."""
    return sorted(len(one.instances) for one in join_series(study(*parts)).series)


class TestJoined:
    def test_two_halves(self):
        halves = [part(T1CE, number, images) for number, images in zip((7, 107), HALVES, strict=True)]
        (series,) = join_series(study(*halves)).series
        assert [one.series_instance_uid for one in series.joined] == ["1.2.7", "1.2.107"]
        assert (series.series_instance_uid, series.series_number, series.description) == ("1.2.7", 7, "t1_mprage_KM")
        assert sorted(one.position_mm for one in series.instances) == [one.position_mm for one in T1CE.instances]
        # Each image still names the series that it came in.
        assert [one.series_instance_uid for one in series.instances] == ["1.2.7"] * 88 + ["1.2.107"] * 88
        assert find_stack(series, Role.T1CE).geometry == find_stack(T1CE, Role.T1CE).geometry

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_slices_that_interleave(self, count):
        parts = [part(T1CE, 10 + turn, range(turn, 176, count)) for turn in range(count)]
        assert joined(*parts) == [176]

    @pytest.mark.parametrize("order", ["ascending", "interleaved"])
    def test_images_with_times_of_their_own(self, order):
        flair = timed(make_series(4, "t2_tirm_dark-fluid", "FLAIR"), 9.0, order)
        for pieces in ((range(15), range(15, 30)), (range(0, 30, 2), range(1, 30, 2))):
            assert joined(*(part(flair, 10 + turn, images) for turn, images in enumerate(pieces))) == [30]

    def test_a_series_for_every_image(self):
        assert joined(*(part(T1CE, 1000 + index, [index]) for index in range(176))) == [176]

    def test_unequal_parts_under_one_number_and_other_names(self):
        first, second = part(T1CE, 7, range(150)), part(T1CE, 8, range(150, 176))
        second = replace(second, series_number=7, description="another name", protocol_name="")
        (series,) = join_series(study(second, first)).series
        assert (series.series_instance_uid, series.description) == ("1.2.7", "t1_mprage_KM")

    def test_without_times_by_the_same_name(self):
        halves = [part(T1CE, number, images, acquired_at="") for number, images in zip((7, 107), HALVES, strict=True)]
        assert joined(*halves) == [176]
        assert joined(halves[0], replace(halves[1], description="t1_mprage_KM upper")) == [88, 88]

    def test_oblique_slices(self):
        turned = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
        normal = (-0.6, 0.8, 0.0)
        images = tuple(
            replace(image, orientation=turned, position_mm=tuple(index * component for component in normal))
            for index, image in enumerate(T1CE.instances)
        )
        whole = replace(T1CE, instances=images)
        assert joined(*(part(whole, 10 + turn, images) for turn, images in enumerate(HALVES))) == [176]

    def test_few_slices_in_both_parts(self):
        """A sender that was interrupted repeats some images; reading compares their pixels."""
        (series,) = join_series(study(part(T1CE, 7, HALVES[0]), part(T1CE, 107, range(83, 176)))).series
        assert len(series.instances) == 176 + 5

    def test_several_images_at_each_slice(self):
        """Diffusion images with two b-values, split by slices."""
        dwi = make_series(5, "ep2d_diff", "DIFF", slices=40)
        images = tuple(
            replace(image, b_value=1000.0 * (index % 2), position_mm=(0.0, 0.0, 5.0 * (index // 2)))
            for index, image in enumerate(dwi.instances)
        )
        dwi = replace(dwi, instances=images)
        assert joined(part(dwi, 5, range(20)), part(dwi, 6, range(20, 40))) == [40]
        assert joined(part(dwi, 5, range(0, 40, 2)), part(dwi, 6, range(1, 40, 2))) == [20, 20]  # one b-value each

    def test_the_order_of_series_does_not_matter(self):
        parts = [part(T1CE, 10 + turn, range(turn, 176, 4)) for turn in range(4)]
        first = join_series(study(*parts))
        for seed in range(3):
            random.Random(seed).shuffle(parts)
            assert join_series(study(*parts)) == first

    def test_others_stay_as_they_are(self):
        other = make_series(4, "t2_tirm_dark-fluid", "FLAIR")
        halves = [part(T1CE, number, images) for number, images in zip((7, 107), HALVES, strict=True)]
        found = join_series(study(*halves, other)).series
        assert [one.series_number for one in found] == [4, 7]
        assert found[0] is other
        assert join_series(study(T1CE, other)) == study(T1CE, other)


OTHER_ACQUISITIONS = {
    "echo time": {"echo_time_ms": 20.0},
    "repetition time": {"repetition_time_ms": 1500.0},
    "inversion time": {"inversion_time_ms": 1100.0},
    "contrast agent": {"contrast_agent": "Dotarem"},
    "phase": {"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")},
    "derived": {"image_type": ("DERIVED", "SECONDARY", "MPR")},
    "sequence": {"scanning_sequence": ("GR",)},
    "frame of reference": {"frame_of_reference_uid": "1.2.4"},
    "size": {"rows": 512},
    "pixel spacing": {"pixel_spacing_mm": (0.8, 0.8)},
    "b-value": {"b_value": 1000.0},
    "orientation": {"orientation": (1.0, 0.0, 0.0, 0.0, 0.99, 0.1411)},
    "later, as after contrast": {"acquired_at": "20240101101500"},
    "another day": {"acquired_at": "20240102100700"},
}


class TestApart:
    @pytest.mark.parametrize("changes", OTHER_ACQUISITIONS.values(), ids=list(OTHER_ACQUISITIONS))
    def test_another_acquisition(self, changes):
        assert joined(part(T1CE, 7, HALVES[0]), part(T1CE, 8, HALVES[1], **changes)) == [88, 88]

    def test_two_stations(self):
        """The table moved: the slices go on, but another acquisition number and time say that they are another scan."""
        upper = part(T1CE, 8, HALVES[1], acquisition_number=2)
        assert joined(part(T1CE, 7, HALVES[0]), upper) == [88, 88]

    @pytest.mark.parametrize("images", [range(50, 176), range(89, 176), range(176), range(10, 60)])
    def test_slices_that_overlap_or_leave_a_gap(self, images):
        assert joined(part(T1CE, 7, HALVES[0]), part(T1CE, 8, images)) == sorted([88, len(images)])

    def test_few_slices_twice_at_another_time(self):
        """Before and after contrast, planned one slice further: both are whole, and nothing is joined."""
        whole = make_series(7, "t1_mprage", "T1", slices=177, step_mm=1.0)
        later = part(whole, 9, range(1, 177), acquired_at="20240101101500")
        assert joined(part(whole, 7, range(176)), later) == [176, 176]
        assert joined(part(whole, 7, range(100)), part(whole, 9, range(98, 177), acquired_at="20240101101500")) == [
            79,
            100,
        ]

    def test_slices_shifted_within_their_plane(self):
        moved = tuple(
            replace(image, position_mm=(10.0, 0.0, image.position_mm[2] if image.position_mm else 0.0))
            for image in part(T1CE, 8, HALVES[1]).instances
        )
        assert joined(part(T1CE, 7, HALVES[0]), replace(part(T1CE, 8, HALVES[1]), instances=moved)) == [88, 88]

    def test_two_echoes_and_two_components_of_whole_heads(self):
        assert joined(T1CE, part(T1CE, 8, range(176), echo_time_ms=20.0)) == [176, 176]

    def test_halves_that_could_belong_to_several(self):
        """Two acquisitions, each split, and nothing tells whose half is whose."""
        lower = [part(T1CE, number, HALVES[0]) for number in (7, 8)]
        upper = [part(T1CE, number, HALVES[1]) for number in (9, 10)]
        assert joined(*lower, *upper) == [88] * 4

    def test_two_split_acquisitions_that_times_tell_apart(self):
        before = [part(T1CE, 7 + turn, images) for turn, images in enumerate(HALVES)]
        after = [part(T1CE, 17 + turn, images, acquired_at="20240101101500") for turn, images in enumerate(HALVES)]
        found = join_series(study(*before, *after)).series
        assert [[one.series_number for one in series.joined] for series in found] == [[7, 8], [17, 18]]

    def test_single_views_are_no_stack(self):
        views = [part(T1CE, 20 + index, [30 * index]) for index in range(5)]
        assert joined(*views) == [1] * 5

    def test_no_mr_images(self):
        halves = [replace(part(T1CE, 7 + turn, images), modality="CT") for turn, images in enumerate(HALVES)]
        assert joined(*halves) == [88, 88]


def test_a_joined_series_is_chosen_with_a_remark():
    rules = load_rules()
    halves = [part(T1CE, number, images) for number, images in zip((7, 107), HALVES, strict=True)]
    older = part(T1CE, 5, range(120), acquired_at="20240101090000")
    selected = choose(study(*halves, older), (Role.T1CE,), rules)
    assert isinstance(selected, Selected)
    (choice,) = selected.choices
    assert len(choice.series.instances) == 176
    (remark,) = choice.remarks
    assert remark.kind is RemarkKind.JOINED
    assert "series 7 and series 107" in remark.text
    assert remark.roles == (Role.T1CE,)
    told = {one.series.series_number: one for one in explain(study(*halves, older), rules)}
    assert told[7].note == "read as one acquisition: series 7 and series 107"
    assert 107 not in told


@pytest.mark.parametrize("share", [88, 140])
def test_a_part_that_is_not_joined_is_told(share):
    """The rest came from another acquisition: it is not read, and that is said even where most of the head is seen."""
    rest = part(T1CE, 8, range(share, 176), acquired_at="20240101093000")
    selected = choose(study(part(T1CE, 7, range(share)), rest), (Role.T1CE,), load_rules())
    assert isinstance(selected, Selected)
    (remark,) = selected.choices[0].remarks
    assert selected.choices[0].series.series_number == 7
    assert "series 7 and series 8 make one stack" in remark.text
    assert "only series 7 was read" in remark.text
    whole = choose(study(T1CE, make_series(4, "t2_tirm_dark-fluid", "FLAIR")), (Role.T1CE,), load_rules())
    assert isinstance(whole, Selected)
    assert whole.choices[0].remarks == ()
