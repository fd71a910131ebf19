"""Foci match their variant and are in the hemispheres, and their fields nest."""

from dataclasses import replace

import numpy as np
import pytest

from models.training.synthetic.fields import coarse_coordinates
from models.training.synthetic.tumour import Focus, Variant, apply_mass_effect, draw_foci, tumour_fields


def ball(radius_mm: float = 12.0, rim_mm: float = 4.0) -> Focus:
    return Focus(lobes=(((20.0, -10.0, 15.0), radius_mm),), rim_mm=rim_mm, infiltration_mm=3.0, oedema_mm=10.0)


@pytest.mark.parametrize(
    ("variant", "counts", "radii"),
    [
        (Variant.UNIFOCAL, {1}, (8, 26)),
        (Variant.MULTIFOCAL, {2, 3, 4}, (4, 17)),
        (Variant.SMALL, {1}, (3, 7)),
        (Variant.NON_ENHANCING, {1}, (9, 24)),
        (Variant.LESION_FREE, {0}, (0, 0)),
    ],
)
def test_foci_are_as_the_variant_says(variant: Variant, counts: set[int], radii: tuple[float, float]) -> None:
    seen = set()
    for seed in range(60):
        foci = draw_foci(np.random.default_rng(seed), variant)
        seen.add(len(foci))
        for focus in foci:
            assert radii[0] <= focus.radius_mm <= radii[1]
            assert (focus.rim_mm > 0) == (variant is not Variant.NON_ENHANCING)
            x, y, z = focus.centre
            assert abs(x) >= 14  # in a hemisphere, clear of the midline
            assert (x / 66) ** 2 + (y / 84) ** 2 + ((z - 8) / 60) ** 2 < 1  # inside the cerebrum
        assert list(foci) == sorted(foci, key=lambda focus: -focus.radius_mm)
    assert seen == counts


def test_a_resection_is_a_cavity_with_or_without_rim_and_nodule() -> None:
    drawn = [draw_foci(np.random.default_rng(seed), Variant.RESECTED) for seed in range(60)]
    assert {len(foci) for foci in drawn} == {1, 2}
    assert all(foci[0].cavity and not any(focus.cavity for focus in foci[1:]) for foci in drawn)
    absent = [foci[0].absent_rim for foci in drawn]
    assert 1.0 in absent
    assert min(absent) < 0.3


def test_absent_rim_and_blood_have_their_shares() -> None:
    at = coarse_coordinates((92, 112, 92), 1.0, (0, 0, 0))
    whole, part, none = (
        tumour_fields(np.random.default_rng(1), at, (replace(ball(20), absent_rim=share, blood=share),), 2.0)
        for share in (0.0, 0.5, 1.0)
    )
    rim, inside = (whole.core < 0) & (whole.necrosis > 0), whole.necrosis < 0
    assert not (whole.gaps < 0).any()
    assert not (whole.blood < 0).any()
    assert 0.2 < (part.gaps < 0)[rim].mean() < 0.8
    assert 0.2 < (part.blood < 0)[inside].mean() < 0.8
    assert (none.gaps < 0)[rim].all()
    assert (none.blood < 0)[inside].all()
    assert not (none.blood < 0)[~inside].any()
    assert (whole.cavity > 0).all()
    fluid = tumour_fields(np.random.default_rng(1), at, (replace(ball(20), cavity=True),), 2.0).cavity
    assert np.array_equal(fluid < 0, inside)


def test_foci_are_in_both_hemispheres() -> None:
    sides = [draw_foci(np.random.default_rng(seed), Variant.UNIFOCAL)[0].centre[0] > 0 for seed in range(100)]
    assert 30 < sum(sides) < 70


def test_fields_nest_around_the_focus() -> None:
    at = coarse_coordinates((92, 112, 92), 1.0, (0, 0, 0))
    fields = tumour_fields(np.random.default_rng(0), at, (ball(),), 2.0)
    core, necrosis, infiltration, oedema = (
        field < 0 for field in (fields.core, fields.necrosis, fields.infiltration, fields.oedema)
    )
    assert necrosis.any()
    assert not (necrosis & ~core).any()
    assert not (core & ~infiltration).any()
    assert not (core & ~oedema).any()
    # The outline wanders by noise of 13 % of the radius; the ball's volume stays within what that allows.
    volume = core.sum() * 2.0**3
    assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.35)
    place = np.array([at.x[core].mean(), at.y[core].mean(), at.z[core].mean()])
    assert place == pytest.approx([20, -10, 15], abs=2.5)


def test_without_a_rim_nothing_enhances() -> None:
    at = coarse_coordinates((92, 112, 92), 1.0, (0, 0, 0))
    fields = tumour_fields(np.random.default_rng(0), at, (ball(rim_mm=0),), 2.0)
    assert (fields.core > 0).all()
    assert (fields.infiltration < 0).any()


def test_mass_effect_samples_inwards_and_fades() -> None:
    at = coarse_coordinates((92, 112, 92), 1.0, (0, 0, 0))
    focus = ball()
    pushed = apply_mass_effect(at, (focus,), strength=0.4)
    centre = np.array(focus.centre)
    before = np.sqrt((at.x - centre[0]) ** 2 + (at.y - centre[1]) ** 2 + (at.z - centre[2]) ** 2)
    after = np.sqrt((pushed.x - centre[0]) ** 2 + (pushed.y - centre[1]) ** 2 + (pushed.z - centre[2]) ** 2)
    # The distance to the focus shrinks by strength times a Gaussian of 1.4 radii.
    assert after == pytest.approx(before * (1 - 0.4 * np.exp(-(before**2) / (2 * (1.4 * 12) ** 2))), abs=1e-3)
