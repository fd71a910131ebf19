"""The series that a neuroradiologist would choose are chosen, with reasons."""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from models.labels import Role
from pipeline.choose import NotEligible, Selected, choose, explain, load_rules
from pipeline.header_fields import header_fields
from pipeline.scan import scan
from pipeline.study import FrameHeader, Series
from tests.support.series_headers import make_series, study

WANTED = (Role.ADC, Role.FLAIR, Role.T1CE)


@pytest.fixture(scope="module")
def rules():
    return load_rules()


FLAIR = make_series(4, "t2_tirm_tra_dark-fluid", "FLAIR")
ADC = make_series(6, "ep2d_diff_ADC", "DIFF", image_type=("DERIVED", "PRIMARY", "DIFFUSION", "ADC"))
T1CE = make_series(7, "t1_mprage_KM", "T1", slices=176, step_mm=1.0, acquisition_type="3D")


def taken(rules, role: Role, *series: Series) -> int | None:
    """Return the number of the series chosen for a role."""
    chosen = choose(study(*series), (role,), rules)
    return chosen.series(role).series_number if isinstance(chosen, Selected) else None


def test_the_three_roles_with_reasons(rules):
    chosen = choose(study(FLAIR, ADC, T1CE), WANTED, rules)
    assert isinstance(chosen, Selected)
    assert [choice.role for choice in chosen.choices] == list(WANTED)
    assert [chosen.series(role).series_number for role in WANTED] == [6, 4, 7]
    assert chosen.why(Role.ADC)[0].startswith("ADC map with confidence")


def test_a_missing_role_makes_a_study_not_eligible(rules):
    chosen = choose(study(FLAIR, T1CE), WANTED, rules)
    assert chosen == NotEligible("no ADC map among 2 series", (Role.ADC,))
    none = choose(study(), WANTED, rules)
    assert isinstance(none, NotEligible)
    assert none.reason == "no ADC map and no FLAIR and no T1 after contrast among 0 series"


def test_what_is_there_is_chosen_where_an_optional_role_is_missing(rules):
    knee = replace(ADC, instances=tuple(replace(one, body_part="KNEE") for one in ADC.instances))
    chosen = choose(study(FLAIR, T1CE, knee), WANTED, rules, optional=(Role.ADC,))
    assert isinstance(chosen, Selected)
    assert [choice.role for choice in chosen.choices] == [Role.FLAIR, Role.T1CE]
    assert chosen.absent == (Role.ADC,)
    assert chosen.why_absent == (
        "no ADC map among 3 series; series 6 (1.2.6) seems to be an ADC map, but was ruled out: other body part"
    )
    both = choose(study(FLAIR), WANTED, rules, optional=(Role.T1CE, Role.ADC))
    assert isinstance(both, Selected)
    assert both.absent == (Role.ADC, Role.T1CE)
    complete = choose(study(FLAIR, ADC, T1CE), WANTED, rules, optional=(Role.ADC,))
    assert complete == choose(study(FLAIR, ADC, T1CE), WANTED, rules)
    assert (complete.absent, complete.why_absent) == ((), "")


def test_only_the_required_roles_that_are_missing_make_a_study_not_eligible(rules):
    chosen = choose(study(FLAIR), WANTED, rules, optional=(Role.ADC,))
    assert chosen == NotEligible("no T1 after contrast among 1 series", (Role.T1CE,))


def test_the_order_of_series_does_not_matter(rules):
    rivals = [
        make_series(number, "t1_mprage_KM", "T1", slices=170 + number % 3, step_mm=1.0) for number in range(10, 16)
    ]
    series = [FLAIR, ADC, T1CE, *rivals]
    first = choose(study(*series), WANTED, rules)
    for seed in range(5):
        random.Random(seed).shuffle(series)
        again = choose(study(*series), WANTED, rules)
        assert [again.series(role) for role in WANTED] == [first.series(role) for role in WANTED]


class TestAmongCandidates:
    def test_thin_before_thick(self, rules):
        thick = make_series(9, "t1_se_tra_KM", "T1")
        assert taken(rules, Role.T1CE, T1CE, thick) == 7

    def test_original_before_reformat(self, rules):
        reformat = make_series(8, "t1_mprage_KM_MPR_Tra", "T1", slices=160, step_mm=1.0)
        named = make_series(
            9, "t1_mprage_KM", "T1", slices=160, step_mm=1.0, image_type=("DERIVED", "SECONDARY", "MPR")
        )
        assert taken(rules, Role.T1CE, T1CE, reformat, named) == 7

    def test_a_reformat_where_nothing_else_is(self, rules):
        assert taken(rules, Role.T1CE, make_series(8, "t1_mprage_KM_MPR_Tra", "T1")) == 8

    def test_the_last_one_after_contrast(self, rules):
        later = replace(T1CE, series_number=9, series_instance_uid="1.2.9")
        later = replace(later, instances=tuple(replace(one, acquired_at="20240101115959") for one in later.instances))
        assert taken(rules, Role.T1CE, later, T1CE) == 9

    def test_complete_before_broken_off(self, rules):
        stump = make_series(9, "t1_mprage_KM", "T1", slices=110, step_mm=1.0, acquisition_type="3D")
        assert taken(rules, Role.T1CE, T1CE, stump) == 7

    def test_one_that_covers_the_head(self, rules):
        slab = make_series(9, "t1_mprage_KM", "T1", slices=60, step_mm=1.0, acquisition_type="3D")
        thick = make_series(10, "t1_se_tra_KM", "T1")
        assert taken(rules, Role.T1CE, slab, thick) == 10

    def test_complete_pixels_before_missing_ones(self, rules):
        cut = replace(T1CE, instances=(replace(T1CE.instances[0], has_pixels=False), *T1CE.instances[1:]))
        again = make_series(6, "t1_mprage_KM", "T1", slices=176, step_mm=1.0, acquisition_type="3D")
        assert taken(rules, Role.T1CE, cut, again) == 6

    def test_but_no_second_best_for_a_damaged_original(self, rules):
        # Reading it fails by name, and the user sends it again; a thick series in its place would go unnoticed.
        cut = replace(T1CE, instances=(replace(T1CE.instances[0], has_pixels=False), *T1CE.instances[1:]))
        assert taken(rules, Role.T1CE, cut, make_series(8, "t1_se_tra_KM", "T1")) == 7

    def test_the_whole_head_before_orbits(self, rules):
        orbits = make_series(9, "t1 orbits KM", "T1", slices=160, step_mm=1.0)
        assert taken(rules, Role.T1CE, T1CE, orbits) == 7

    def test_two_volumes_in_a_series_do_not_make_another_look_broken_off(self, rules):
        """T1 before and after contrast in one series has twice the images, and no more slices."""
        twice = make_series(6, "t1_mprage_KM", "T1", slices=176, step_mm=1.0, acquisition_type="3D")
        twice = replace(twice, instances=(*twice.instances, *T1CE.instances))
        assert taken(rules, Role.T1CE, twice, make_series(9, "t1_mprage_KM", "T1", slices=176, step_mm=1.0)) == 9


class TestNever:
    @pytest.mark.parametrize(
        ("description", "changes"),
        [
            ("t1_se_tra_KM_SUB", {}),
            ("t1_se_tra_KM", {"image_type": ("DERIVED", "SECONDARY", "SUB")}),
            ("t1_mprage_KM_MIP", {}),
            ("t1_mprage_KM", {"image_type": ("DERIVED", "SECONDARY", "MIP")}),
            ("T1 KM lumbar spine", {}),
            ("T1 KM", {"body_part": "LSPINE"}),
            ("T1 KM", {"samples_per_pixel": 3, "photometric_interpretation": "RGB"}),
            ("T1 KM localizer", {}),
        ],
    )
    def test_for_t1ce(self, rules, description, changes):
        assert taken(rules, Role.T1CE, make_series(1, description, "T1", **changes)) is None

    @pytest.mark.parametrize(
        ("description", "image_type"),
        [
            ("ep2d_diff_eADC", ("DERIVED", "PRIMARY", "DIFFUSION")),
            ("ep2d_diff", ("DERIVED", "PRIMARY", "EADC")),
            ("Exponential Apparent Diffusion Coefficient", ("DERIVED", "SECONDARY", "PROCESSED")),
            ("ep2d_diff_TRACEW", ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW")),
            ("ep2d_diff_FA", ("DERIVED", "PRIMARY", "DIFFUSION", "FA")),
            ("ADC colour fusion", ("DERIVED", "SECONDARY")),
        ],
    )
    def test_for_adc(self, rules, description, image_type):
        assert taken(rules, Role.ADC, make_series(1, description, "DIFF", image_type=image_type)) is None

    def test_a_few_images_or_several_orientations(self, rules):
        assert taken(rules, Role.T1CE, make_series(1, "T1 KM", "T1", slices=3)) is None
        three = make_series(1, "T1 KM", "T1", slices=12)
        turned = tuple(
            replace(one, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)) if index % 2 else one
            for index, one in enumerate(three.instances)
        )
        assert taken(rules, Role.T1CE, replace(three, instances=turned)) is None

    def test_objects_that_are_no_mr_images(self, rules):
        assert taken(rules, Role.T1CE, replace(T1CE, modality="SEG")) is None


class TestHeaders:
    def test_timing_corrects_a_wrong_description(self, rules):
        flair_called_t2 = make_series(3, "t2_tra", "FLAIR")
        assert taken(rules, Role.FLAIR, flair_called_t2) == 3
        assert taken(rules, Role.FLAIR, make_series(3, "FLAIR", "T1")) is None

    def test_a_map_is_known_by_its_image_type(self, rules):
        plain = make_series(3, "ep2d_diff", "DIFF", image_type=("DERIVED", "PRIMARY", "DIFFUSION", "ADC"))
        assert taken(rules, Role.ADC, plain) == 3
        ge = make_series(
            *(4, "Apparent Diffusion Coefficient (mm?/s)", "DIFF"), image_type=("DERIVED", "SECONDARY", "PROCESSED")
        )
        assert taken(rules, Role.ADC, ge) == 4

    def test_a_map_is_known_by_the_types_of_its_frames(self, rules):
        """An enhanced image may say only in its functional groups what it is (PS3.3 C.8.13.5)."""
        frame = FrameHeader(
            **dict.fromkeys(("position_mm", "orientation", "pixel_spacing_mm", "echo_time_ms", "repetition_time_ms")),
            **dict.fromkeys(("inversion_time_ms", "b_value", "gradient", "temporal_position", "acquisition_number")),
            **{
                "trigger_time_ms": None,
                "stack": "",
                "rescale_slope": 1.0,
                "rescale_intercept": 0.0,
                "real_world": None,
            },
            image_type=("DERIVED", "PRIMARY", "DIFFUSION", "ADC"),
        )
        plain = make_series(3, "ep2d_diff", "DIFF", slices=1, image_type=("DERIVED", "PRIMARY", "OTHER", "NONE"))
        frames = tuple(replace(frame, position_mm=(0.0, 0.0, 5.0 * number)) for number in range(30))
        image = replace(plain.instances[0], number_of_frames=30, frames=frames)
        assert taken(rules, Role.ADC, replace(plain, instances=(image,))) == 3

    def test_the_contrast_tag_where_it_tells_series_apart(self, rules):
        before = make_series(2, "t1_mprage_sag", "T1", slices=176, step_mm=1.0)
        after = make_series(9, "t1_mprage_sag", "T1", slices=176, step_mm=1.0, contrast_agent="Dotarem")
        assert taken(rules, Role.T1CE, before, after, FLAIR) == 9
        assert taken(rules, Role.T1, before, after, FLAIR) == 2

    def test_a_contrast_tag_on_every_series_is_no_evidence(self, rules):
        series = [
            make_series(2, "t1_mprage_sag", "T1", slices=176, step_mm=1.0, contrast_agent="Dotarem"),
            make_series(4, "t2_tirm_dark-fluid", "FLAIR", contrast_agent="Dotarem"),
        ]
        assert taken(rules, Role.T1CE, *series) is None
        assert taken(rules, Role.T1, *series) == 2

    def test_an_agent_called_none_is_none(self, rules):
        none = make_series(2, "t1_mprage_sag", "T1", slices=176, step_mm=1.0, contrast_agent="NONE")
        assert taken(rules, Role.T1CE, none, FLAIR) is None

    def test_the_protocol_where_there_is_no_description(self, rules):
        assert taken(rules, Role.T1CE, replace(T1CE, description=" ", protocol_name="t1_mprage_KM")) == 7


class TestStrayImages:
    """The evidence is that of most images, wherever the others stand in their series."""

    @pytest.mark.parametrize("place", [0, 15, 29])
    def test_header_fields(self, rules, place):
        stray = {
            "echo_time_ms": 3.0,
            "repetition_time_ms": 5.0,
            "inversion_time_ms": None,
            "image_type": (),
            "scanning_sequence": ("EP",),
            "body_part": "KNEE",
            "acquired_at": "99991231",
        }
        images = list(FLAIR.instances)
        images[place] = replace(images[place], **stray)
        series = replace(FLAIR, instances=tuple(images))
        agents = Counter({False: 1})
        assert header_fields(series, agents) == header_fields(FLAIR, agents)
        assert taken(rules, Role.FLAIR, series) == 4
        later = make_series(9, "t2_tirm_tra_dark-fluid", "FLAIR")
        assert taken(rules, Role.FLAIR, series, later) == 9

    @pytest.mark.parametrize("place", [0, 15, 29])
    def test_a_blank_image_type_hides_no_map(self, rules, place):
        images = list(ADC.instances)
        images[place] = replace(images[place], image_type=())
        plain = replace(ADC, description="ep2d_diff", instances=tuple(images))
        assert taken(rules, Role.ADC, plain) == 6


class TestWithoutAnAdcMap:
    def diffusion(self, *b_values: float) -> Series:
        made = make_series(5, "ep2d_diff_TRACEW", "DIFF", slices=20 * len(b_values))
        images = tuple(
            replace(
                one, b_value=b_values[index % len(b_values)], position_mm=(0.0, 0.0, 5.0 * (index // len(b_values)))
            )
            for index, one in enumerate(made.instances)
        )
        return replace(made, instances=images)

    def test_a_diffusion_series_takes_its_place(self, rules):
        chosen = choose(study(self.diffusion(0.0, 1000.0), FLAIR), (Role.ADC,), rules)
        assert isinstance(chosen, Selected)
        assert chosen.series(Role.ADC).series_number == 5
        assert "computed" in chosen.why(Role.ADC)[0]

    def test_a_map_is_preferred(self, rules):
        assert taken(rules, Role.ADC, self.diffusion(0.0, 1000.0), ADC) == 6

    @pytest.mark.parametrize("b_values", [(0.0,), (1000.0,), (0.0, 500.0), (0.0, 3000.0)])
    def test_not_without_both_weightings(self, rules, b_values):
        assert taken(rules, Role.ADC, self.diffusion(*b_values)) is None

    def test_it_is_explained(self, rules):
        (told,) = explain(study(self.diffusion(0.0, 1000.0)), rules)
        assert (told.taken_for, "computed" in told.note) == (Role.DWI, True)
        told, _ = explain(study(self.diffusion(0.0, 1000.0), ADC), rules)
        assert told.note == ""

    def test_a_setting_switches_it_off(self, rules):
        assert isinstance(choose(study(self.diffusion(0.0, 1000.0)), (Role.ADC,), rules, derive_adc=False), NotEligible)


class TestExplained:
    def test_every_series_has_a_role_or_a_reason(self, rules):
        thick = make_series(9, "t1_se_tra_KM", "T1")
        subtraction = make_series(10, "t1_se_tra_KM_SUB", "T1")
        odd = make_series(11, "Special", "T1")
        told = {
            one.series.series_number: one for one in explain(study(FLAIR, ADC, T1CE, thick, subtraction, odd), rules)
        }
        assert {number: one.taken_for for number, one in told.items()} == {
            **{4: Role.FLAIR, 6: Role.ADC, 7: Role.T1CE},
            **{9: None, 10: None, 11: None},
        }
        assert told[9].ruled_out == ("series 7 is better for T1CE: it is 3D or thin",)
        assert told[10].ruled_out == ("subtraction",)
        assert told[11].ruled_out == ("nothing says clearly what it is",)
        assert told[7].classification.evidence

    def test_it_agrees_with_choosing(self, rules, shared_data):
        (one,) = scan([shared_data / "semireal" / "siemens-unifocal" / "dicom"]).studies
        told = {item.taken_for: item.series for item in explain(one, rules) if item.taken_for}
        chosen = choose(one, WANTED, rules)
        assert all(told[role] is chosen.series(role) for role in WANTED)


def test_the_type_in_the_archive_is_evidence(rules):
    """An unclear description, T1 timing and a scan type are enough together, and all are named as reasons."""
    bare = study(
        make_series(2, "SAG 1", "T1", slices=160, step_mm=1.0),
        make_series(3, "FLAIR", "FLAIR"),
        make_series(4, "ADC", "DIFF"),
    )
    assert choose(bare, WANTED, rules) == NotEligible("no T1 after contrast among 3 series", (Role.T1CE,))
    typed = replace(bare, series=(replace(bare.series[0], archive_type="T1CE"), *bare.series[1:]))
    selected = choose(typed, WANTED, rules)
    assert isinstance(selected, Selected)
    assert selected.series(Role.T1CE).series_number == 2
    assert any(reason.startswith("archive's type: ") for reason in selected.why(Role.T1CE))
    (explained,) = (each for each in explain(typed, rules) if each.series.series_number == 2)
    assert "archive's type" in {item.source for item in explained.classification.evidence}


def test_the_semireal_study(rules, shared_data):
    folder = shared_data / "semireal" / "siemens-unifocal"
    truth = json.loads((folder / "truth.json").read_text())
    (one,) = scan([folder]).studies
    chosen = choose(one, WANTED, rules)
    assert isinstance(chosen, Selected)
    assert {role.value: chosen.series(role).description for role in WANTED} == truth["wanted"]


def test_choosing_loads_no_torch_and_no_dicom_library():
    code = "import pipeline.choose, sys; print([name for name in ('torch', 'pydicom', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['numpy']")


def test_a_missing_role_names_what_came_near_to_it(rules):
    """By number and UID, never by a description, and a few of many."""
    knee = replace(ADC, instances=tuple(replace(one, body_part="KNEE") for one in ADC.instances))
    chosen = choose(study(knee, T1CE), WANTED, rules)
    assert isinstance(chosen, NotEligible)
    assert chosen.missing == (Role.ADC, Role.FLAIR)
    assert chosen.reason == (
        "no ADC map and no FLAIR among 2 series; "
        "series 6 (1.2.6) seems to be an ADC map, but was ruled out: other body part"
    )
    subtractions = [make_series(number, "SUBTRACTION T1 KM", "T1") for number in range(10, 15)]
    many = choose(study(*subtractions), (Role.T1CE,), rules)
    assert isinstance(many, NotEligible)
    assert many.reason.count("seems to be a T1 after contrast, but was ruled out: subtraction") == 3
    assert many.reason.endswith("; and 2 more like these")
    assert "KM" not in many.reason
