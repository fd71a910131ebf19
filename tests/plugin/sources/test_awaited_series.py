"""Which series a study may wait for follows from its headers, the package and the site's settings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.labels import Role
from models.package import ModelPackage
from plugin.archive.study_inputs import StudyInputs
from plugin.settings.sections import Settings
from plugin.sources.awaited_series import awaited_series
from tests.support.node import new_study_uid
from tests.support.small_study import write_small_study
from tests.support.tiny_package import make_package

__all__ = ["make_package"]
Make = Callable[..., ModelPackage]


@pytest.mark.parametrize(
    ("series", "awaited"),
    [((1, 2, 3), ()), ((1, 2, 4), (Role.ADC,)), ((2,), (Role.ADC, Role.T1CE)), ((1, 3), ()), ((), ())],
)
def test_an_optional_series_is_awaited_where_the_required_ones_are_there(
    make_package: Make, tmp_path: Path, series: tuple[int, ...], awaited: tuple[Role, ...]
) -> None:
    study = new_study_uid()
    paths = [path for path in write_small_study(study, tmp_path) if series_number(path) in series]
    find = awaited_series(Settings(), make_package(optional=(Role.ADC, Role.T1CE)))
    assert find is not None
    assert find(StudyInputs(tuple(paths), (), 0)) == awaited


def series_number(path: Path) -> int:
    """Return the number of a series of the small study, which its images' UIDs name."""
    return int(path.stem.split(".")[-2])


def test_nothing_is_awaited_where_all_is_required(make_package: Make) -> None:
    assert awaited_series(Settings(), make_package()) is None
    package = make_package(optional=(Role.ADC,), name="lacking")
    assert awaited_series(Settings(model={"require": ["ADC"]}), package) is None
