"""The frames of a series with the place and the physics of each, classic or enhanced. Decodes no pixels."""

from dataclasses import dataclass

from pipeline.header import Header, NotDicom, read_header
from pipeline.scan import real_world_scale
from pipeline.study import Instance, RealWorldScale, Series
from pipeline.volume import Vector

SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
_PLANE_POSITION, _PLANE_ORIENTATION, _PIXEL_MEASURES = 0x00209113, 0x00209116, 0x00289110
_VALUE_TRANSFORMATION, _FRAME_CONTENT, _ECHO, _DIFFUSION = 0x00289145, 0x00209111, 0x00189114, 0x00189117
_FRAME_TYPE, _CARDIAC, _TEMPORAL = 0x00189226, 0x00189118, 0x00189310
_DIRECTION = 0x00189076

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
"""Objects that can be slices of a volume; others in a series (spectra, raw data) are no part of it."""


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """One frame of one instance. What a header does not say is None."""

    instance: Instance
    index: int
    """From 0 within the instance"""
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

    @property
    def component(self) -> str:
        """Magnitude "M", phase "P", real "R" or imaginary "I" part of the signal."""
        for value, names in _COMPONENTS.items():
            if names & set(self.image_type):
                return value
        return "M"


_COMPONENTS = {
    "P": {"P", "PHASE", "PHASE MAP", "P_FFE", "P_SE", "P_IR"},
    "R": {"R", "REAL", "R_FFE", "R_SE", "R_IR"},
    "I": {"I", "IMAGINARY", "I_FFE", "I_SE", "I_IR"},
}


def frames_of(series: Series) -> tuple[PlacedFrame, ...]:
    """All image frames of a series, in the order of its instances. Multi-frame headers are read here."""
    frames: list[PlacedFrame] = []
    for instance in series.instances:
        if instance.sop_class_uid not in IMAGE_SOP_CLASSES:
            continue
        if instance.number_of_frames > 1 or instance.position_mm is None:
            frames.extend(_multi_frame(instance))
        else:
            frames.append(_classic(instance))
    return tuple(frames)


def _classic(instance: Instance) -> PlacedFrame:
    return PlacedFrame(
        instance=instance,
        index=0,
        position_mm=instance.position_mm,
        orientation=instance.orientation,
        pixel_spacing_mm=instance.pixel_spacing_mm,
        image_type=instance.image_type,
        echo_time_ms=instance.echo_time_ms,
        echo_number=instance.echo_number,
        b_value=instance.b_value,
        gradient=instance.gradient,
        temporal_position=instance.temporal_position,
        acquisition_number=instance.acquisition_number,
        trigger_time_ms=instance.trigger_time_ms,
        stack="",
        rescale_slope=instance.rescale_slope,
        rescale_intercept=instance.rescale_intercept,
        real_world=instance.real_world,
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """Functional groups of one frame: its own macro, else the shared one (PS3.3 C.7.6.16.1)."""

    own: Header
    shared: Header | None

    def macro(self, tag: int) -> Header | None:
        for groups in (self.own, self.shared):
            items = groups.items(tag) if groups is not None else ()
            if items:
                return items[0]
        return None

    def numbers(self, macro: int, tag: int) -> tuple[float, ...]:
        item = self.macro(macro)
        return item.numbers(tag) if item is not None else ()

    def number(self, macro: int, tag: int) -> float | None:
        values = self.numbers(macro, tag)
        return values[0] if values else None


def _multi_frame(instance: Instance) -> list[PlacedFrame]:
    """The frames of an enhanced image; of the classic kind where it has no functional groups."""
    try:
        header = read_header(instance.path, [SHARED_GROUPS, FRAME_GROUPS, 0x00080005])
    except NotDicom:
        return [_classic(instance)]
    shared = next(iter(header.items(SHARED_GROUPS)), None)
    own = header.items(FRAME_GROUPS)
    if len(own) != instance.number_of_frames:
        return [_classic(instance)]
    return [_enhanced_frame(instance, index, _Groups(item, shared)) for index, item in enumerate(own)]


def _enhanced_frame(instance: Instance, index: int, groups: _Groups) -> PlacedFrame:
    position = groups.numbers(_PLANE_POSITION, 0x00200032)
    directions = groups.numbers(_PLANE_ORIENTATION, 0x00200037)
    spacing = groups.numbers(_PIXEL_MEASURES, 0x00280030)
    content = groups.macro(_FRAME_CONTENT)
    frame_type = groups.macro(_FRAME_TYPE)
    slope, intercept = (groups.number(_VALUE_TRANSFORMATION, tag) for tag in (0x00281053, 0x00281052))
    b_value = groups.number(_DIFFUSION, 0x00189087)
    return PlacedFrame(
        instance=instance,
        index=index,
        position_mm=(position[0], position[1], position[2]) if len(position) == 3 else None,
        orientation=(
            (directions[0], directions[1], directions[2], directions[3], directions[4], directions[5])
            if len(directions) == 6
            else None
        ),
        pixel_spacing_mm=(spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        image_type=frame_type.texts(0x00089007) if frame_type is not None else instance.image_type,
        echo_time_ms=groups.number(_ECHO, 0x00189082),
        echo_number=None,
        b_value=b_value,
        gradient=_gradient(groups),
        temporal_position=content.integer(0x00209128) if content is not None else None,
        acquisition_number=content.integer(0x00209156) if content is not None else None,
        trigger_time_ms=groups.number(_CARDIAC, 0x00209153),
        stack=content.text(0x00209056) if content is not None else "",
        rescale_slope=1.0 if slope is None else slope,
        rescale_intercept=0.0 if intercept is None else intercept,
        real_world=real_world_scale(groups.own) or (real_world_scale(groups.shared) if groups.shared else None),
    )


def _gradient(groups: _Groups) -> Vector | None:
    diffusion = groups.macro(_DIFFUSION)
    items = diffusion.items(_DIRECTION) if diffusion is not None else ()
    values = items[0].numbers(0x00189089) if items else ()
    return (values[0], values[1], values[2]) if len(values) == 3 else None
