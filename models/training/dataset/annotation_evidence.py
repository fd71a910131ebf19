"""Check an annotation against the images: that none was lost, and that its numbers are what they are taken for."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.labels import ENHANCING_TUMOUR
from models.training.dataset.annotation import Annotation
from models.training.dataset.writer import CaseRefused

_LEAST_KEPT, _SPECK_ML = 0.5, 0.5
"""Share of a mask that has to be left on the common grid, and the volume up to which large voxels may take more."""
_LEAST_VOXELS = 10
"""Fewer voxels have no median to compare."""


def check_not_lost(annotation: Annotation, drawn_ml: float, kept_ml: float) -> None:
    """Raise CaseRefused if a mask vanished, or most of it, on its way to the common grid: it would count as empty."""
    if drawn_ml > 0 and (not kept_ml or (kept_ml < _LEAST_KEPT * drawn_ml and drawn_ml > _SPECK_ML)):
        raise CaseRefused(
            f"Of {drawn_ml:.3g} ml of {annotation.label} in {annotation.where} {kept_ml:.3g} ml are left on the grid "
            "of the data set: the rest lies outside of the head, or is smaller than the voxels. Check the mask, or "
            "give a finer --spacing."
        )


def check_brightness(
    masks: Mapping[str, NDArray[np.bool_]], truth: Mapping[str, Annotation | None], t1ce: NDArray[np.float32]
) -> None:
    """Raise CaseRefused if numbers alone say which label is enhancing tumour, and another one is brighter on T1CE.

    Label maps of BraTS have 1 for necrosis, 2 for oedema and 3 for enhancing tumour, those of brain tissue 1 for CSF.
    `masks` and `t1ce` are (slices, rows, columns) on one grid.
    """
    enhancing = ENHANCING_TUMOUR.name
    annotation = truth.get(enhancing)
    if annotation is None or not annotation.presumed:
        return
    own = _median(t1ce, masks[enhancing])
    others = (_median(t1ce, mask & ~masks[enhancing]) for name, mask in masks.items() if name != enhancing)
    if own is not None and any(median is not None and median > own for median in others):
        raise CaseRefused(
            f"{annotation.where} has a label that is brighter on T1CE than its 1, which is taken for enhancing tumour, "
            "so its numbers mean something else, as those of BraTS do. Say what they mean with --map NUMBER=LABEL."
        )


def _median(voxels: NDArray[np.float32], mask: NDArray[np.bool_]) -> float | None:
    inside = voxels[mask & np.isfinite(voxels)]
    return float(np.median(inside)) if inside.size >= _LEAST_VOXELS else None
