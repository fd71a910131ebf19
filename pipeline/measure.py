"""Measure masks: their volumes, lesions and ADC."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.labels import PAPER_LABELS, Label
from pipeline.errors import UnitsUnknown
from pipeline.result import AdcStatistics, LabelMeasurement
from pipeline.volume import Geometry, Volume

MOST_ADC = 4000.0
"""10^-6 mm2/s; free water at body temperature has 3000."""
_ADC_LABELS = (1, 2)
"""Numbers of the labels inside which ADC is measured: enhancing tumour and ADC abnormality."""


def measure(
    masks: NDArray[np.bool_],
    geometry: Geometry,
    on_adc: tuple[NDArray[np.bool_], Volume] | None,
    seen_share: float = 1.0,
    labels: tuple[Label, ...] = PAPER_LABELS,
) -> tuple[LabelMeasurement, ...]:
    """Measure each of `labels`.

    `masks` is (labels, slices, rows, columns) on `geometry`, the reference's grid, for volumes and lesions. `on_adc`
    are the same labels on the grid of the ADC map, and the map (10^-6 mm2/s, NaN for missing values), None where the
    study has none: ADC is measured at the map's own voxels and not at interpolated ones. `seen_share` is the share of
    the head that every series shows.
    """
    return tuple(
        LabelMeasurement(
            label=label,
            volume_ml=float(np.count_nonzero(mask)) * geometry.voxel_volume_mm3 / 1000,
            lesion_count=count_lesions(mask),
            adc=adc_statistics(on_adc[0][row], on_adc[1]) if on_adc and label.number in _ADC_LABELS else None,
            seen_share=seen_share,
        )
        for row, (label, mask) in enumerate(zip(labels, masks, strict=True))
    )


def check_adc(measurements: Iterable[LabelMeasurement], series_instance_uid: str) -> None:
    """Check that the ADC inside the labels is one of tissue. Raises UnitsUnknown, which names the series of the map.

    Maximum and 90th percentile are left out: many maps saturate at 4095, and small lesions have bad voxels.
    """
    for each in measurements:
        found = each.adc
        if found is not None and max(found.minimum, found.percentile_10, found.median, found.mean) > MOST_ADC:
            raise UnitsUnknown(
                f"Series {series_instance_uid}: the mean of its ADC inside {each.label.title.lower()} is "
                f"{found.mean:.0f} x 10^-6 mm2/s (median {found.median:.0f}), but free water has 3000. Send the map "
                "with its units coded, or exclude the series by a rule (choose.rules_file)."
            )


def count_lesions(mask: NDArray[np.bool_]) -> int:
    """Count the connected components of a mask (slices, rows, columns); connectivity is 26."""
    lines = np.logical_or.reduce(mask, axis=2)
    slices, rows = np.flatnonzero(lines.any(axis=1)), np.flatnonzero(lines.any(axis=0))
    if not slices.size:
        return 0
    part = mask[slices[0] : slices[-1] + 1, rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(part.any(axis=(0, 1)))
    return int(ndimage.label(part[..., columns[0] : columns[-1] + 1], structure=np.ones((3, 3, 3)))[1])


def adc_statistics(mask: NDArray[np.bool_], adc: Volume) -> AdcStatistics | None:
    """Return statistics of ADC over the valid voxels of a mask on the map's grid; None without any."""
    values = adc.pixels[mask].astype(np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    percentile_10, median, percentile_90 = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return AdcStatistics(
        voxel_count=int(values.size),
        mean=float(values.mean()),
        median=median,
        minimum=float(values.min()),
        maximum=float(values.max()),
        standard_deviation=float(values.std()),
        percentile_10=percentile_10,
        percentile_90=percentile_90,
    )


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient, 2 |A and B| / (|A| + |B|), of two masks of one shape; 1 if both are empty."""
    total = np.count_nonzero(found) + np.count_nonzero(truth)
    return 2.0 * np.count_nonzero(found & truth) / total if total else 1.0
