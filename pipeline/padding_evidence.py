"""Judge whether what a header declares as pixel padding is padding, by the values of the images."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.samples import Samples
from pipeline.study import SampleFormat

_NEIGHBOURS = 3
"""Grey values on each side of a padding value that it is compared with."""
_SPIKE = 3.0
"""Padding is more frequent than the grey values beside it, by this factor."""
_MOST_TISSUE = 0.25
"""Largest share of the middle of the images that a range of padding may take with values of many kinds."""


@dataclass(slots=True)
class PaddingEvidence:
    """Counts over the frames of a series."""

    voxels: int = 0
    padded: int = 0
    _beside: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * _NEIGHBOURS + 1, np.int64))
    _middle_voxels: int = 0
    _middle: list[tuple[NDArray[Any], NDArray[np.int64]]] = field(default_factory=list)

    def add(self, values: Samples, padded: NDArray[np.bool_], samples: SampleFormat | None, in_middle: bool) -> None:
        """Count a frame: (rows, columns). `in_middle` says whether it is of the middle half of the slices."""
        self.voxels += values.size
        self.padded += int(np.count_nonzero(padded))
        if samples is None or samples.padding is None or samples.is_float:
            return
        low, high = samples.padding
        if low == high:
            near = values[(values >= low - _NEIGHBOURS) & (values <= low + _NEIGHBOURS)].astype(np.int64)
            self._beside += np.bincount(near - int(low) + _NEIGHBOURS, minlength=2 * _NEIGHBOURS + 1)
            return
        if not in_middle:  # the outer slices may be air
            return
        rows, columns = values.shape
        box = np.s_[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
        self._middle_voxels += values[box].size
        self._middle.append(np.unique(values[box][padded[box]], return_counts=True))

    @property
    def is_ordinary(self) -> bool:
        """Whether a single padding value is an ordinary grey value: no more frequent than those beside it.

        Then it was not used as padding, or there is nothing to tell the two apart by; the values stay.
        """
        hits = int(self._beside[_NEIGHBOURS])
        beside = max(self._beside[:_NEIGHBOURS].mean(), self._beside[_NEIGHBOURS + 1 :].mean())
        return bool(0 < hits <= _SPIKE * beside)

    @property
    def takes_tissue(self) -> bool:
        """Whether a range of padding takes much of the middle of the images, and values of many kinds with it.

        One value may: the air around a small head. Tissue has many.
        """
        if not self._middle:
            return False
        kinds = np.concatenate([values for values, _ in self._middle])
        counts = np.concatenate([counts for _, counts in self._middle])
        if not kinds.size:
            return False
        _, which = np.unique(kinds, return_inverse=True)
        each = np.bincount(which, weights=counts)
        return float(each.sum() - each.max()) > _MOST_TISSUE * self._middle_voxels
