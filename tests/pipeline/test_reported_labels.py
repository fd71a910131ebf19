"""Which labels are reported of a study follows from the series that it has, and from the package."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, Label, Role
from models.package import ModelPackage
from pipeline.reported_labels import reported_labels
from pipeline.result import Inferred, NotReported


@pytest.fixture
def package(make_package: Callable[..., ModelPackage]) -> ModelPackage:
    made = make_package(optional=(Role.ADC, Role.T1CE))
    thresholds = {"enhancing_tumour": 0.1, "adc_abnormality": 0.2, "flair_hyperintensity": 0.3}
    return replace(made, labels=tuple(replace(label, threshold=thresholds[label.name]) for label in made.labels))


@pytest.mark.parametrize(
    ("present", "labels", "missing"),
    [
        ("ADC FLAIR T1CE", (ENHANCING_TUMOUR, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY), ()),
        ("FLAIR T1CE", (ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY), (ADC_ABNORMALITY,)),
        ("FLAIR", (FLAIR_HYPERINTENSITY,), (ENHANCING_TUMOUR, ADC_ABNORMALITY)),
        ("T1", (), (ENHANCING_TUMOUR, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY)),
    ],
)
def test_a_label_is_not_reported_without_the_series_that_defines_it(
    package: ModelPackage, present: str, labels: tuple[Label, ...], missing: tuple[Label, ...]
) -> None:
    found = reported_labels(package, [Role(name) for name in present.split()])
    assert found.labels == labels
    assert found.thresholds == tuple(label.number / 10 for label in labels)
    assert found.shown_by == tuple((label.defined_on,) for label in labels)
    assert found.not_reported == tuple(NotReported(label, label.defined_on) for label in missing)
    assert found.inferred == ()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_labels_come_by_number_whatever_the_order_of_the_networks_outputs(
    package: ModelPackage, order: tuple[int, ...]
) -> None:
    found = reported_labels(
        replace(package, labels=tuple(package.labels[each] for each in order)), [Role.FLAIR, Role.ADC]
    )
    assert found.labels == (ADC_ABNORMALITY, FLAIR_HYPERINTENSITY)
    assert found.channels == (order.index(1), order.index(2))
    assert found.thresholds == (0.2, 0.3)


def test_a_label_is_inferred_where_the_package_says_so_and_the_series_are_there(package: ModelPackage) -> None:
    from_both = replace(package.labels[1], inferred_from=(Role.FLAIR, Role.T1CE))
    package = replace(package, labels=(package.labels[0], from_both, package.labels[2]))
    found = reported_labels(package, [Role.FLAIR, Role.T1CE])
    assert found.inferred == (Inferred(ADC_ABNORMALITY, Role.ADC, (Role.FLAIR, Role.T1CE)),)
    assert found.labels == (ENHANCING_TUMOUR, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY)
    assert found.shown_by[1] == (Role.FLAIR, Role.T1CE)
    assert found.not_reported == ()
    assert reported_labels(package, Role).inferred == (), "a series that is there defines its label"
    lacking = reported_labels(package, [Role.FLAIR])
    assert [each.label for each in lacking.not_reported] == [ENHANCING_TUMOUR, ADC_ABNORMALITY]
