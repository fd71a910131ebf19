"""The reference series is T1CE; without it the finest, which the order of the series does not change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.labels import Role
from pipeline.reference import reference_on_one_grid, reference_role
from pipeline.volume import Geometry


def _geometry(*spacing_mm: float) -> Geometry:
    return Geometry.axial((4, 4, 4), (spacing_mm[0], spacing_mm[1], spacing_mm[2]), (0.0, 0.0, 0.0), "1.2.3")


FINE, THICK = _geometry(1.0, 1.0, 1.0), _geometry(5.0, 0.4, 0.4)


@pytest.mark.parametrize(
    ("study", "reference"),
    [
        ({Role.T1CE: THICK, Role.FLAIR: FINE, Role.ADC: FINE}, Role.T1CE),
        ({Role.FLAIR: THICK, Role.T1: FINE}, Role.T1),
        ({Role.T1: FINE, Role.FLAIR: _geometry(1.004, 1.0, 1.0)}, Role.FLAIR),  # the same but for rounding
        ({Role.T2: FINE, Role.T1: FINE}, Role.T1),
        ({Role.ADC: FINE, Role.DWI: FINE, Role.T2: THICK}, Role.T2),  # distorted, and without air
        ({Role.DWI: FINE, Role.ADC: FINE}, Role.ADC),
        ({Role.DWI: FINE}, Role.DWI),
    ],
)
def test_the_finest_series_is_the_reference_where_there_is_no_t1ce(
    study: dict[Role, Geometry], reference: Role
) -> None:
    assert reference_role(study) is reference
    assert reference_role(dict(reversed(study.items()))) is reference


def test_on_one_grid_the_order_of_roles_decides() -> None:
    assert reference_on_one_grid({Role.ADC, Role.T2, Role.FLAIR}) is Role.FLAIR
    assert reference_on_one_grid([Role.DWI, Role.ADC, Role.T1CE]) is Role.T1CE


def test_a_study_without_series_has_no_reference() -> None:
    with pytest.raises(ValueError, match="empty"):
        reference_role({})


@given(st.permutations(list(Role)), st.sets(st.sampled_from(Role), min_size=1), st.data())
def test_any_set_of_series_has_one_reference_in_any_order(
    order: list[Role], roles: set[Role], data: st.DataObject
) -> None:
    study = {role: data.draw(st.sampled_from([FINE, THICK]), label=role) for role in order if role in roles}
    assert reference_role(study) is reference_role({role: study[role] for role in sorted(study)})
    assert reference_role(study) in roles
