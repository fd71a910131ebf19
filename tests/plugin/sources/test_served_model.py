"""Which roles series are chosen for follows from the package, and from what the site requires."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models.labels import Role
from models.package import ModelPackage
from pipeline.errors import SettingsWrong
from plugin.sources.served_model import WantedRoles, wanted_roles
from tests.support.tiny_package import make_package

__all__ = ["make_package"]
Make = Callable[..., ModelPackage]
CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)


def test_a_package_without_optional_channels_wants_all_of_them(make_package: Make) -> None:
    assert wanted_roles(make_package()) == WantedRoles(CHANNELS, ())


def test_a_site_may_require_what_a_package_can_do_without(make_package: Make) -> None:
    package = make_package(optional=(Role.T1CE, Role.ADC))
    assert wanted_roles(package) == WantedRoles(CHANNELS, (Role.ADC, Role.T1CE))
    assert wanted_roles(package, (Role.T1CE, Role.FLAIR)) == WantedRoles(CHANNELS, (Role.ADC,))
    assert wanted_roles(package, CHANNELS) == WantedRoles(CHANNELS, ())
    with pytest.raises(SettingsWrong, match=r"model\.require names T2, DWI; the channels of model tiny are ADC, FLAIR"):
        wanted_roles(package, (Role.T2, Role.FLAIR, Role.DWI))


def test_a_label_needs_its_series_though_it_is_no_channel_unless_it_may_be_inferred(make_package: Make) -> None:
    package = replace(make_package(), channels=(Role.FLAIR, Role.T1CE))
    assert wanted_roles(package) == WantedRoles((Role.FLAIR, Role.T1CE, Role.ADC), ())
    inferring = replace(package.labels[1], inferred_from=(Role.FLAIR,))
    package = replace(package, labels=(package.labels[0], inferring, package.labels[2]))
    assert wanted_roles(package) == WantedRoles((Role.FLAIR, Role.T1CE, Role.ADC), (Role.ADC,))
