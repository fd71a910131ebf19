"""Say what it means that nothing was found."""

from collections.abc import Iterable

from models.labels import LABELS
from models.package import ModelPackage, SizeSensitivity
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import LabelMeasurement


def is_empty(measurements: Iterable[LabelMeasurement]) -> bool:
    """Return whether no label has a voxel. One empty label beside others is common and needs no remark."""
    return not any(each.lesion_count for each in measurements)


def empty_remarks(measurements: Iterable[LabelMeasurement], package: ModelPackage) -> tuple[Remark, ...]:
    """Return what a reader of an empty result must know, with the model's sensitivity by size; none if not empty."""
    if not is_empty(measurements):
        return ()
    statement = "This model found nothing. That nothing was found does not mean that nothing is there."
    return (Remark(RemarkKind.EMPTY, f"{statement} {_sensitivity(package)}"),)


def _sensitivity(package: ModelPackage) -> str:
    if not package.sensitivity:
        return "The model's sensitivity by size of lesion was not measured."
    by_label = []
    for label in LABELS:
        sizes = [_size(each) for each in package.sensitivity if each.label == label.name]
        if sizes:
            by_label.append(f"{label.title} {', '.join(sizes)}")
    return f"Detected in an evaluation on {package.sensitivity_measured_on}: {'; '.join(by_label)}."


def _size(each: SizeSensitivity) -> str:
    if each.up_to_ml is None:
        size = f"above {each.above_ml:g} ml"
    elif each.above_ml == 0:
        size = f"up to {each.up_to_ml:g} ml"
    else:
        size = f"{each.above_ml:g} to {each.up_to_ml:g} ml"
    return f"{size} in {each.detected} of {each.heads} heads"
