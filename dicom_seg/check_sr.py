"""The look at a structured report: evidence, segments, measurements, regions. Shares nothing with encoders."""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_seg.at_hand import AtHand
from dicom_seg.check_references import whole_numbers
from dicom_seg.check_seg import SegLook

Concept = tuple[str, str]
"""Coding scheme and code value. Written out here, not taken from codes.py: a wrong code there should be noticed."""

_VOLUME = (("SCT", "118565006"), ("SRT", "G-D705"))
_BY_COUNTING = (None, ("DCM", "126030"))
"""Methods under which a volume is that of the set voxels: not stated, and sum of segmented voxels."""
_NEVER_NEGATIVE = (*_VOLUME, ("SCT", "246206008"), ("SCT", "103339001"), ("SCT", "103340004"))
"""Volumes, number of lesions, long axis, short axis."""
_ADC: Concept = ("DCM", "113041")
_ADC_UNITS = {"10-6.mm2/s": 1.0, "um2/s": 1.0, "10-3.mm2/s": 1e3, "mm2/s": 1e6}
ADC_RANGE = (0.0, 4000.0)
"""10^-6 mm2/s; free water at body temperature has 3000."""
_UPPER_TAIL = (("SCT", "56851009"), ("IBSI", "OZ0C"), ("IBSI", "8DWT"))
"""Maximum and 90th percentile may be higher: many maps saturate at 4095, and a small lesion has a few bad voxels."""
_MM3 = {"mm3": 1.0, "cm3": 1000.0, "ml": 1000.0}
_DERIVATION, _METHOD = ("DCM", "121401"), ("SCT", "370129005")
_GROUP: Concept = ("DCM", "125007")
_RELATIVE_TOLERANCE = 2e-3
"""Of a volume, beyond the digits that are written: slices may be shifted sideways a little, as far as reading takes
them (`pipeline.read`), and a SEG gives their distance along the shift."""


def check_report(dataset: Dataset, at_hand: AtHand, segs: Mapping[str, SegLook]) -> Iterator[str]:
    """What is wrong with the content of a report. `segs` is what was seen of SEGs, by SOP instance UID."""
    yield from _check_evidence(dataset)
    for item in _descendants(dataset):
        for reference in item.get("ReferencedSOPSequence") or ():
            if reference.get("ReferencedSOPClassUID") == SegmentationStorage:
                uid = str(reference.ReferencedSOPInstanceUID)
                yield from _check_segments(uid, whole_numbers(reference, "ReferencedSegmentNumber"), segs)
        if item.get("ValueType") == "NUM":
            yield from _check_number(item)
        elif item.get("ValueType") == "SCOORD":
            yield from _check_region(item, at_hand)
        elif item.get("ValueType") == "CONTAINER" and _concept(item) == _GROUP:
            yield from _check_volumes(item, segs)


def _check_evidence(dataset: Dataset) -> Iterator[str]:
    """PS3.3 C.17.2: what the content refers to is listed as evidence, for those who fetch it with the report."""
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
    """The code that a child of `item` gives under this name."""
    children = item.get("ContentSequence") or ()
    return next((_concept(child, "ConceptCodeSequence") for child in children if _concept(child) == name), None)


def _check_segments(uid: str, numbers: tuple[int, ...], segs: Mapping[str, SegLook]) -> Iterator[str]:
    # An empty `voxels` is that of a SEG whose pixels cannot be read, which is said of the SEG.
    if uid in segs and segs[uid].voxels and not set(numbers) <= set(segs[uid].voxels):
        yield f"it refers to a segment that SEG {uid} has not."


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
    """Value, unit (UCUM) and half of the last digit written; None where the report says that there is no value."""
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


def _check_volumes(group: Dataset, segs: Mapping[str, SegLook]) -> Iterator[str]:
    """Volumes of a group against the voxels of the segments that it refers to."""
    items = group.get("ContentSequence") or ()
    looks = []
    for reference in (reference for item in items for reference in item.get("ReferencedSOPSequence") or ()):
        look = segs.get(str(reference.ReferencedSOPInstanceUID))
        looks += [(look, number) for number in whole_numbers(reference, "ReferencedSegmentNumber") if look]
    if len(looks) != 1:
        return
    look, segment = looks[0]
    for item in items:
        measured = _measured(item)
        if _concept(item) not in _VOLUME or _modifier(item, _METHOD) not in _BY_COUNTING or measured is None:
            continue
        value, unit, rounding = measured
        if unit in _MM3 and look.voxel_mm3 is not None and segment in look.voxels:
            wanted = look.voxels[segment] * look.voxel_mm3 / _MM3[unit]
            if not abs(value - wanted) <= rounding + _RELATIVE_TOLERANCE * wanted:
                yield f"the volume of segment {segment} is not that of the segment's voxels ({wanted:.6g} {unit})."


def _check_region(item: Dataset, at_hand: AtHand) -> Iterator[str]:
    """PS3.3 C.18.6: columns and rows from the outer corner of the first pixel, so from 0 to their numbers."""
    references = [
        reference
        for child in item.get("ContentSequence") or ()
        for reference in child.get("ReferencedSOPSequence") or ()
    ]
    if not references:
        yield "a region is selected from no image."
    points = [float(value) for value in item.get("GraphicData") or ()]
    if not points or len(points) % 2:
        yield "a region has no whole number of points."
    for reference in references:
        image = at_hand.known.get(str(reference.ReferencedSOPInstanceUID))
        if image is None:
            continue
        inside = all(0 <= x <= image.columns for x in points[0::2]) and all(0 <= y <= image.rows for y in points[1::2])
        if not inside:
            yield f"a region lies outside of image {reference.ReferencedSOPInstanceUID}."
