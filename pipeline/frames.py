"""List the frames of a series, classic or enhanced, with the position and acquisition parameters of each."""

from dataclasses import dataclass

from pipeline.study import FrameHeader, Instance, RealWorldScale, Series
from pipeline.volume import Vector

IMAGE_SOP_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color Image Storage
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map Storage
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
        "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
    }
)
"""Objects that can be slices of a volume; others in a series (spectra, raw data) are skipped."""


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """One frame of an instance. Absent values are None."""

    instance: Instance
    index: int
    """Index within the instance, from 0."""
    position_mm: Vector | None
    orientation: tuple[float, float, float, float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    image_type: tuple[str, ...]
    echo_time_ms: float | None
    echo_number: int | None
    b_value: float | None
    gradient: Vector | None
    temporal_position: int | None
    acquisition_number: int | None
    trigger_time_ms: float | None
    stack: str
    rescale_slope: float
    rescale_intercept: float
    real_world: RealWorldScale | None
    rescale_type: str = ""
    scale_slope: float | None = None

    @property
    def component(self) -> str:
        """The component of the signal: "M" magnitude, "P" phase, "R" real or "I" imaginary part."""
        for value, names in _COMPONENTS.items():
            if names & set(self.image_type):
                return value
        return "M"


_COMPONENTS = {
    "P": {"P", "PHASE", "PHASE MAP", "P_FFE", "P_SE", "P_IR"},
    "R": {"R", "REAL", "R_FFE", "R_SE", "R_IR"},
    "I": {"I", "IMAGINARY", "I_FFE", "I_SE", "I_IR"},
}


def list_frames(series: Series) -> tuple[PlacedFrame, ...]:
    """Return all image frames of a series, in the order of its instances."""
    frames: list[PlacedFrame] = []
    for instance in series.instances:
        if instance.sop_class_uid not in IMAGE_SOP_CLASSES:
            continue
        if instance.frames:
            frames.extend(_placed(instance, index, frame) for index, frame in enumerate(instance.frames))
        else:
            frames.append(_placed(instance, 0, instance))
    return tuple(frames)


def _placed(instance: Instance, index: int, header: FrameHeader | Instance) -> PlacedFrame:
    """Make a frame from `header`: its functional groups, or the header of a classic image."""
    return PlacedFrame(
        instance=instance,
        index=index,
        position_mm=header.position_mm,
        orientation=header.orientation,
        pixel_spacing_mm=header.pixel_spacing_mm,
        image_type=header.image_type or instance.image_type,
        echo_time_ms=header.echo_time_ms,
        echo_number=instance.echo_number,
        b_value=header.b_value,
        gradient=header.gradient,
        temporal_position=header.temporal_position,
        acquisition_number=header.acquisition_number,
        trigger_time_ms=header.trigger_time_ms,
        stack=header.stack if isinstance(header, FrameHeader) else "",
        rescale_slope=header.rescale_slope,
        rescale_intercept=header.rescale_intercept,
        real_world=header.real_world,
        scale_slope=header.scale_slope,
        rescale_type=header.rescale_type,
    )
