"""Hold the result of a study: the frozen values that the encoders, the report and the archive share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import PAPER_LABELS, Label, Role
from models.package import IntendedUse
from pipeline.alignment import RoleAlignment
from pipeline.remarks import Remark
from pipeline.role_coverage import RoleCoverage
from pipeline.study import Series
from pipeline.volume import Frame, Geometry


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that made a result."""

    name: str
    version: str
    sha256: str
    """SHA-256 of its weights."""
    intended_use: IntendedUse
    package_sha256: str = ""
    """SHA-256 of its model.toml, which names thresholds, refinement and the weights; empty for one that has none."""


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """A series that was used, as it was read."""

    role: Role
    series: Series
    geometry: Geometry
    frames: tuple[Frame, ...]
    """One per slice of `geometry`, in slice order."""
    why: tuple[str, ...]
    """Why this series was chosen for the role."""
    notes: tuple[str, ...] = ()
    """Technical notes from reading it, such as the factor of ADC units, or that the ADC map was computed."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about it."""


@dataclass(frozen=True, slots=True)
class AdcStatistics:
    """ADC inside a label, 10^-6 mm2/s, over the valid voxels of the ADC map's own grid (failed fits left out)."""

    voxel_count: int
    mean: float
    median: float
    minimum: float
    maximum: float
    standard_deviation: float
    """Of the population: divided by n, not by n - 1."""
    percentile_10: float
    percentile_90: float


@dataclass(frozen=True, slots=True)
class IntermediateAdc:
    """The tissue of intermediate ADC inside a label, on the ADC map's own grid; see `pipeline.intermediate_adc`."""

    volume_ml: float
    below: float
    """10^-6 mm2/s: voxels with a lower ADC count."""
    white_matter: float
    """The median ADC of normal-looking white matter, 10^-6 mm2/s, of which `below` is a multiple."""


@dataclass(frozen=True, slots=True)
class LabelMeasurement:
    """Measurements of one label, on the grid of the reference series unless a field says otherwise."""

    label: Label
    volume_ml: float
    """Of what was found where the series on which the label is defined shows the head."""
    lesion_count: int
    """Connected components with 26-connectivity."""
    adc: AdcStatistics | None
    """None if ADC is not measured for the label, or if no valid ADC voxel lies inside."""
    seen_share: float = 1.0
    """Share of the head that every series shows; 1 if each of them shows it whole."""
    intermediate_adc: IntermediateAdc | None = None
    """An experiment; None unless the settings ask for it."""

    @property
    def assessed(self) -> bool:
        """Whether the volume is a measurement: where a part of the head was not seen, "nothing found" is none."""
        return self.lesion_count > 0 or self.seen_share >= 1


@dataclass(frozen=True, slots=True)
class MasksOnSeries:
    """Labels on the own grid of a series."""

    role: Role
    labels: tuple[Label, ...]
    masks: NDArray[np.bool_]
    """(labels, slices, rows, columns), one slice for every slice of that series."""


@dataclass(frozen=True, slots=True)
class NotReported:
    """A label of the model that is not reported, as the series on which it is defined is absent."""

    label: Label
    absent: Role
    """The role that no series of the study has."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """A label that is reported although the series on which it is defined is absent, as the model's package says."""

    label: Label
    absent: Role
    inferred_from: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Diameter:
    """A straight line across a lesion in one slice."""

    start: tuple[float, float]
    """(row, column) in voxels of the slice; whole numbers are centres of voxels, the first being (0, 0)."""
    end: tuple[float, float]
    length_mm: float


@dataclass(frozen=True, slots=True)
class LesionDiameters:
    """The two diameters of one measurable enhancing lesion (RANO: both at least 10 mm), in one slice of T1CE."""

    lesion: int
    """Number from 1, in descending order of the product of the diameters."""
    slice_index: int
    long: Diameter
    short: Diameter
    """Perpendicular to `long`, and within the lesion, as `long` is."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Slices of the reference series for pictures, with the other series resampled to them."""

    slice_indices: tuple[int, ...]
    """Indices of slices of the reference series, ascending."""
    roles: tuple[Role, ...]
    pixels: NDArray[np.float32]
    """(roles, slice indices, rows, columns), the rows and columns of the reference; NaN outside of a series."""


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """A segmented study."""

    study_instance_uid: str
    sources: tuple[SourceSeries, ...]
    alignments: tuple[RoleAlignment, ...]
    """One for every source except the reference."""
    masks: NDArray[np.bool_]
    """(labels, slices, rows, columns) on the own grid of the reference series, in the order of `labels`."""
    measurements: tuple[LabelMeasurement, ...]
    """In the order of `labels`."""
    model: ModelIdentity
    device: str
    """Device that the network ran on, such as "cuda", "cpu" or "cpu (GPU memory ran out)"."""
    native: tuple[MasksOnSeries, ...] = ()
    """Labels on other series than the reference, at most one entry per role."""
    diameters: tuple[LesionDiameters, ...] = ()
    """Diameters of the enhancing tumour; empty if no lesion is measurable."""
    panels: Panels | None = None
    """None without pictures."""
    remarks: tuple[Remark, ...] = ()
    """What goes with the result wherever it is shown: the remarks on its series first, then those on the whole."""
    coverage: tuple[RoleCoverage, ...] = ()
    """What each series shows of the head."""
    series_numbers_from: int = 8000
    """Our series are numbered from here, see `dicom_seg.series_numbers`."""
    labels: tuple[Label, ...] = PAPER_LABELS
    """The labels that are reported, in the order of their numbers."""
    reference: Role = Role.T1CE
    """The role of the series that the others are aligned with, and on whose slices all labels are; T1CE where it is
    there."""
    absent: tuple[Role, ...] = ()
    """Input channels of the model that the study lacks."""
    not_reported: tuple[NotReported, ...] = ()
    inferred: tuple[Inferred, ...] = ()

    def on_reference(self) -> MasksOnSeries:
        """Return all labels on the reference series."""
        return MasksOnSeries(self.reference, self.labels, self.masks)

    def source(self, role: Role) -> SourceSeries:
        """Return the series of a role. Raises KeyError."""
        for source in self.sources:
            if source.role is role:
                return source
        raise KeyError(role)
