"""Measure the tissue of intermediate ADC inside labels. An experiment: no threshold of it has been validated.

Tumour of many cells has a lower ADC than oedema and a higher one than normal white matter. Wan et al. 2024 annotate
both as one ADC abnormality, and say that the part of intermediate ADC is found in it "by simple thresholding", after
Qin et al. 2017 (Neuroradiology 59:135-145, their reference 34; on response to immunotherapy). ADC differs by scanner
and b-values, so the threshold is a multiple, which the settings name, of the median ADC of this scan's normal-looking
white matter. Its default is not Qin's: it is near 1.63, the median in enhancing tumour, relative to white matter and
after treatment, that parted longer from shorter survival in Hagiwara et al. 2022 (Neuro-Oncology 24:1020-1028).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, Role
from pipeline.align import Aligned
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import IntermediateAdc, LabelMeasurement
from pipeline.volume import Volume

MEASURED_IN = (ENHANCING_TUMOUR, ADC_ABNORMALITY)
_TISSUE = (400.0, 1200.0)
"""10^-6 mm2/s: grey and white matter. Below are failed fits, fat and air; above is liquor, and what has a part of it.
"""
_BRIGHTER_THAN_GREY = {Role.T1CE: True, Role.T1: True, Role.FLAIR: False, Role.T2: False}
"""Whether white matter is brighter than grey matter, for each structural series."""
_AWAY_MM = 10.0
"""Distance from every label, along each axis: infiltrated tissue goes on beyond what is marked."""
_DEEP_MM = 4.0
"""Distance from what is no tissue: thinner tissue is muscle and skin, or has a part of liquor."""
_WHITE_SHARE = 0.4
"""Less than the share of white matter in the brain, about a half, of which a lesion may take some."""
_LEAST_ML = 5.0
"""With less white matter than this its median is not relied on."""


Measured = tuple[tuple[LabelMeasurement, ...], tuple[Remark, ...]]


def measure_intermediate_adc(
    measurements: Sequence[LabelMeasurement],
    on_adc: tuple[NDArray[np.bool_], Volume] | None,
    aligned: Aligned,
    marked: Tensor,
    below: float,
) -> Measured:
    """Return the measurements with intermediate ADC inside enhancing tumour and ADC abnormality, and what to say of it.

    `on_adc` is the labels of the measurements (labels, slices, rows, columns) on the grid of the ADC map, and the map
    (10^-6 mm2/s, NaN for failed fits, which do not count); None without one. For `aligned` and `marked` see
    `white_matter_adc`. A voxel counts whose ADC is less than `below` times that of white matter. Where nothing can be
    measured the remark says why.
    """
    kept, what = tuple(measurements), "Intermediate ADC, an experiment that is not validated,"
    if on_adc is None:
        return kept, _remark(f"{what} was not measured: the study has no ADC map.")
    white_matter = white_matter_adc(aligned, marked)
    if white_matter is None:
        return kept, _remark(f"{what} was not measured: the series do not tell enough normal-looking white matter.")
    (masks, adc), limit = on_adc, below * white_matter
    found = tuple(_with_volume(*pair, adc, limit, white_matter) for pair in zip(measurements, masks, strict=True))
    if not any(each.intermediate_adc for each in found):
        return kept, _remark(f"{what} was not measured: no label that it is measured in has a voxel with an ADC.")
    return found, _remark(
        f"{what} is the volume with an ADC below {limit:.0f} x 10-6 mm2/s, {below:g} times the median of "
        f"normal-looking white matter ({white_matter:.0f})."
    )


def _with_volume(
    measurement: LabelMeasurement, mask: NDArray[np.bool_], adc: Volume, limit: float, white_matter: float
) -> LabelMeasurement:
    if measurement.label not in MEASURED_IN or measurement.adc is None:
        return measurement
    volume_ml = float(np.count_nonzero(adc.pixels[mask] < limit)) * adc.geometry.voxel_volume_mm3 / 1000
    return replace(measurement, intermediate_adc=IntermediateAdc(volume_ml, limit, white_matter))


def _remark(text: str) -> tuple[Remark, ...]:
    return (Remark(RemarkKind.EXPERIMENT, text, (Role.ADC,)),)


def white_matter_adc(aligned: Aligned, marked: Tensor) -> float | None:
    """Return the median ADC of normal-looking white matter, 10^-6 mm2/s; None if too little is told from the rest.

    `marked` is (slices, rows, columns), bool, on the grid of `aligned`: what belongs to any label. The brain is known
    by its ADC, as the largest piece of tissue that is deep enough; it counts away from every label. White matter is the
    part of it that is among the brightest on T1 and among the darkest on T2 and FLAIR, on all of them that are there.
    """
    scans = {role: channel.cpu().numpy() for role, channel in zip(aligned.roles, aligned.channels, strict=True)}
    structural = [role for role in scans if role in _BRIGHTER_THAN_GREY]
    if Role.ADC not in scans or not structural:
        return None
    spacing_mm = aligned.grid.spacing_mm[0]  # isotropic
    adc = scans[Role.ADC]
    brain = _largest_deep((adc >= _TISSUE[0]) & (adc <= _TISSUE[1]), spacing_mm)  # NaN is in no range
    reach = 2 * int(np.ceil(_AWAY_MM / spacing_mm)) + 1
    brain &= ~ndimage.maximum_filter(marked.cpu().numpy(), size=reach, mode="constant")
    brain &= np.logical_and.reduce([np.isfinite(scans[role]) for role in structural])
    if not brain.any():
        return None
    white = brain.copy()
    for role in structural:
        if _BRIGHTER_THAN_GREY[role]:
            white &= scans[role] > np.quantile(scans[role][brain], 1 - _WHITE_SHARE)
        else:
            white &= scans[role] < np.quantile(scans[role][brain], _WHITE_SHARE)
    if np.count_nonzero(white) * spacing_mm**3 < _LEAST_ML * 1000:
        return None
    return float(np.median(adc[white]))


def _largest_deep(tissue: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.bool_]:
    """Return the largest connected part of what lies _DEEP_MM inside of a mask."""
    deep = ndimage.binary_erosion(tissue, iterations=int(np.ceil(_DEEP_MM / spacing_mm)))
    parts, _ = ndimage.label(deep)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = deep & (parts == sizes.argmax())
    return largest
