"""Check a structured report: its evidence, referenced segments, measurements and regions."""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_seg.check_references import whole_numbers
from dicom_seg.check_seg import CheckedSeg
from dicom_seg.known_objects import KnownObjects

Concept = tuple[str, str]
"""(coding scheme designator, code value). Written out here and not imported from codes.py, so that a wrong code there
is noticed."""

_VOLUME = (("SCT", "118565006"), ("SRT", "G-D705"))
_COUNTING_METHODS = (None, ("DCM", "126030"))
"""Methods by which a volume is that of the set voxels: none stated, or sum of segmented voxels."""
_THRESHOLD: Concept = ("DCM", "122411")
"""A group with one measures a part of its segment, such as that of a low ADC."""
_NEVER_NEGATIVE = (*_VOLUME, ("SCT", "246206008"), ("SCT", "103339001"), ("SCT", "103340004"))
"""Volumes, number of lesions, long axis, short axis."""
_ADC: Concept = ("DCM", "113041")
_ADC_UNITS = {"10-6.mm2/s": 1.0, "um2/s": 1.0, "10-3.mm2/s": 1e3, "mm2/s": 1e6}
ADC_RANGE = (0.0, 4000.0)
"""10^-6 mm2/s; free water at body temperature has 3000."""
_UPPER_TAIL = (("SCT", "56851009"), ("IBSI", "OZ0C"), ("IBSI", "8DWT"))
"""Maximum and 90th percentile may exceed the range: many maps saturate at 4095, and small lesions have bad voxels."""
_MM3 = {"mm3": 1.0, "cm3": 1000.0, "ml": 1000.0}
_DERIVATION, _METHOD = ("DCM", "121401"), ("SCT", "370129005")
_GROUP: Concept = ("DCM", "125007")
_RELATIVE_TOLERANCE = 2e-3
"""Of a volume, on top of its rounding: `pipeline.read` accepts slices that are slightly shifted sideways, and a SEG
gives their spacing along the shift."""


def check_report(dataset: Dataset, known: KnownObjects, segs: Mapping[str, CheckedSeg]) -> Iterator[str]:
    """Yield what is wrong with the content of a report. `segs` are the checked SEGs by SOP instance UID."""
    yield from _check_evidence(dataset)
    for item in _descendants(dataset):
        for reference in item.get("ReferencedSOPSequence") or ():
            if reference.get("ReferencedSOPClassUID") == SegmentationStorage:
                uid = str(reference.ReferencedSOPInstanceUID)
                yield from _check_segments(uid, whole_numbers(reference, "ReferencedSegmentNumber"), segs)
        if item.get("ValueType") == "NUM":
            yield from _check_number(item)
        elif item.get("ValueType") == "SCOORD":
            yield from _check_region(item, known)
        elif item.get("ValueType") == "CONTAINER" and _concept(item) == _GROUP:
            yield from _check_volumes(item, segs)


def _check_evidence(dataset: Dataset) -> Iterator[str]:
    """Check that everything the content refers to is listed as evidence (PS3.3 C.17.2), so that it can be retrieved."""
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(keyword) or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedSOPSequence") or ()
    }
    referred = dict.fromkeys(
        str(reference.ReferencedSOPInstanceUID)
        for item in _descendants(dataset)
        for reference in item.get("ReferencedSOPSequence") or ()
    )
    unlisted = [uid for uid in referred if uid not in evidence]
    if unlisted:
        more = f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""
        yield f"it refers to {unlisted[0]}{more} without listing it as evidence."


def _descendants(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _descendants(child)


def _concept(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> Concept | None:
    codes = item.get(keyword)
    return (str(codes[0].get("CodingSchemeDesignator")), str(codes[0].get("CodeValue"))) if codes else None


def _modifier(item: Dataset, name: Concept) -> Concept | None:
    """Return the coded value of the child of `item` with this concept name."""
    children = item.get("ContentSequence") or ()
    return next((_concept(child, "ConceptCodeSequence") for child in children if _concept(child) == name), None)


def _check_segments(uid: str, numbers: tuple[int, ...], segs: Mapping[str, CheckedSeg]) -> Iterator[str]:
    # `voxels` is empty if the pixels cannot be read, which is reported for the SEG itself.
    if uid in segs and segs[uid].voxels and not set(numbers) <= set(segs[uid].voxels):
        yield f"it refers to a segment that SEG {uid} does not have."


def _check_number(item: Dataset) -> Iterator[str]:
    concept, derivation = _concept(item), _modifier(item, _DERIVATION)
    measured = _measured(item)
    if measured is None:
        return
    value, unit, _ = measured
    if not math.isfinite(value):
        yield "a measurement is not a finite number."
    elif concept in _NEVER_NEGATIVE and value < 0:
        yield f"a {'volume' if concept in _VOLUME else 'count or length'} is negative."
    elif concept == _ADC and unit in _ADC_UNITS:
        highest = math.inf if derivation in _UPPER_TAIL else ADC_RANGE[1]
        if not ADC_RANGE[0] <= value * _ADC_UNITS[unit] <= highest:
            yield f"an ADC is not between {ADC_RANGE[0]:g} and {ADC_RANGE[1]:g} x 10^-6 mm2/s."


def _measured(item: Dataset) -> tuple[float, str, float] | None:
    """Return value, unit (UCUM) and half of the last written digit; None where the item states no value."""
    values = item.get("MeasuredValueSequence")
    if not values:
        return None
    unit = _concept(values[0], "MeasurementUnitsCodeSequence")
    try:
        written = Decimal(str(values[0].NumericValue).strip())
    except InvalidOperation:
        return math.nan, "", 0.0
    exponent = written.as_tuple().exponent
    return float(written), unit[1] if unit else "", 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def _check_volumes(group: Dataset, segs: Mapping[str, CheckedSeg]) -> Iterator[str]:
    """Compare the volumes of a measurement group with the voxels of the segment that it refers to."""
    items = group.get("ContentSequence") or ()
    if any(_concept(item) == _THRESHOLD for item in items):
        return
    segments = []
    for reference in (reference for item in items for reference in item.get("ReferencedSOPSequence") or ()):
        seg = segs.get(str(reference.ReferencedSOPInstanceUID))
        segments += [(seg, number) for number in whole_numbers(reference, "ReferencedSegmentNumber") if seg]
    if len(segments) != 1:
        return
    seg, segment = segments[0]
    for item in items:
        measured = _measured(item)
        if _concept(item) not in _VOLUME or _modifier(item, _METHOD) not in _COUNTING_METHODS or measured is None:
            continue
        value, unit, rounding = measured
        if unit in _MM3 and seg.voxel_mm3 is not None and segment in seg.voxels:
            expected = seg.voxels[segment] * seg.voxel_mm3 / _MM3[unit]
            if not abs(value - expected) <= rounding + _RELATIVE_TOLERANCE * expected:
                yield f"the volume of segment {segment} is not that of the segment's voxels ({expected:.6g} {unit})."


def _check_region(item: Dataset, known: KnownObjects) -> Iterator[str]:
    """Check that a region lies inside its image.

    PS3.3 C.18.6: coordinates count from the outer corner of the first pixel, so they run from 0 to the image's size.
    """
    references = [
        reference
        for child in item.get("ContentSequence") or ()
        for reference in child.get("ReferencedSOPSequence") or ()
    ]
    if not references:
        yield "a region refers to no image."
    points = [float(value) for value in item.get("GraphicData") or ()]
    if not points or len(points) % 2:
        yield "a region does not have whole pairs of coordinates."
    for reference in references:
        image = known.by_uid.get(str(reference.ReferencedSOPInstanceUID))
        if image is None:
            continue
        inside = all(0 <= x <= image.columns for x in points[0::2]) and all(0 <= y <= image.rows for y in points[1::2])
        if not inside:
            yield f"a region lies outside image {reference.ReferencedSOPInstanceUID}."
