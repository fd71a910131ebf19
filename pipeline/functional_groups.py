"""Read the functional groups of each frame of an enhanced multi-frame image (PS3.3 C.7.6.16)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline import diffusion_tags
from pipeline.header import Header
from pipeline.real_world import real_world_scale
from pipeline.sample_format import PIXEL_REPRESENTATION
from pipeline.study import FrameHeader, RealWorldScale
from pipeline.volume import Vector

SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
_SLOPE, _INTERCEPT, _RESCALE_TYPE = 0x00281053, 0x00281052, 0x00281054
_PLANE_POSITION, _PLANE_ORIENTATION, _PIXEL_MEASURES = 0x00209113, 0x00209116, 0x00289110
_VALUE_TRANSFORMATION, _FRAME_CONTENT, _ECHO, _DIFFUSION = 0x00289145, 0x00209111, 0x00189114, 0x00189117
_UNASSIGNED = (0x00209170, 0x00209171)
"""Sequences of the elements that a conversion from classic images found no macro for (PS3.3 C.7.6.16.2.25 and 26)."""
_FRAME_TYPE, _CARDIAC, _TIMING, _MODIFIER, _DIRECTION = 0x00189226, 0x00189118, 0x00189112, 0x00189115, 0x00189076


@dataclass(frozen=True, slots=True)
class _Groups:
    """The functional groups of one frame: a macro of the frame itself goes before a shared one."""

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

    def integer(self, macro: int, tag: int) -> int | None:
        item = self.macro(macro)
        return item.integer(tag) if item is not None else None

    def unassigned(self) -> Iterator[Header]:
        """Yield what may hold elements outside of macros: the groups themselves, and items that makers add to them."""
        for groups in (self.own, self.shared):
            if groups is not None:
                yield groups
                for tag in list(groups.dataset.keys()):
                    if tag in _UNASSIGNED or tag >> 16 & 1:
                        yield from groups.items(tag)


def frame_headers(header: Header, frame_count: int, manufacturer: str) -> tuple[FrameHeader, ...]:
    """Return one header per frame; nothing if the number of per-frame groups is not that of frames."""
    own = header.items(FRAME_GROUPS)
    if len(own) != frame_count:
        return ()
    shared = next(iter(header.items(SHARED_GROUPS)), None)
    return tuple(_frame_header(_Groups(item, shared), manufacturer, header) for item in own)


def _frame_header(groups: _Groups, manufacturer: str, header: Header) -> FrameHeader:
    """Return the values of one frame; a rescale and units that its groups lack are those of the whole image."""
    frame_type, content = groups.macro(_FRAME_TYPE), groups.macro(_FRAME_CONTENT)
    transformation = groups.macro(_VALUE_TRANSFORMATION) or header
    slope, intercept = transformation.number(_SLOPE), transformation.number(_INTERCEPT)
    return FrameHeader(
        position_mm=as_vector(groups.numbers(_PLANE_POSITION, 0x00200032)),
        orientation=as_orientation(groups.numbers(_PLANE_ORIENTATION, 0x00200037)),
        pixel_spacing_mm=as_spacing(groups.numbers(_PIXEL_MEASURES, 0x00280030)),
        image_type=frame_type.texts(0x00089007) if frame_type is not None else (),
        echo_time_ms=groups.number(_ECHO, 0x00189082),
        repetition_time_ms=groups.number(_TIMING, 0x00180080),
        inversion_time_ms=groups.number(_MODIFIER, 0x00189079),
        b_value=_b_value(groups, manufacturer),
        gradient=_gradient(groups, manufacturer),
        scale_slope=_scale_slope(groups, manufacturer),
        temporal_position=groups.integer(_FRAME_CONTENT, 0x00209128),
        acquisition_number=groups.integer(_FRAME_CONTENT, 0x00209156),
        trigger_time_ms=groups.number(_CARDIAC, 0x00209153),
        stack=content.text(0x00209056) if content is not None else "",
        rescale_slope=1.0 if slope is None else slope,
        rescale_intercept=0.0 if intercept is None else intercept,
        real_world=_real_world(groups, header),
        rescale_type=transformation.text(_RESCALE_TYPE),
    )


def _real_world(groups: _Groups, header: Header) -> RealWorldScale | None:
    signed = header.integer(PIXEL_REPRESENTATION) == 1
    scales = (real_world_scale(one, signed) for one in (groups.own, groups.shared, header) if one is not None)
    return next((scale for scale in scales if scale is not None), None)


def _b_value(groups: _Groups, manufacturer: str) -> float | None:
    values = (diffusion_tags.b_value(item, manufacturer) for item in _diffusion_items(groups))
    return next((value for value in values if value is not None), None)


def _scale_slope(groups: _Groups, manufacturer: str) -> float | None:
    values = (diffusion_tags.scale_slope(item, manufacturer) for item in groups.unassigned())
    return next((value for value in values if value is not None), None)


def _gradient(groups: _Groups, manufacturer: str) -> Vector | None:
    diffusion = groups.macro(_DIFFUSION)
    items = diffusion.items(_DIRECTION) if diffusion is not None else ()
    directions = (diffusion_tags.gradient(item, manufacturer) for item in (*items[:1], *_diffusion_items(groups)))
    return next((direction for direction in directions if direction is not None), None)


def _diffusion_items(groups: _Groups) -> Iterator[Header]:
    diffusion = groups.macro(_DIFFUSION)
    if diffusion is not None:
        yield diffusion
    yield from groups.unassigned()


def as_vector(values: tuple[float, ...]) -> Vector | None:
    """Return three numbers as a vector; None for any other count."""
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def as_spacing(values: tuple[float, ...]) -> tuple[float, float] | None:
    """Return two positive numbers; None for anything else."""
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None


def as_orientation(values: tuple[float, ...]) -> tuple[float, float, float, float, float, float] | None:
    """Return six numbers, the two directions of (0020,0037); None for any other count."""
    return (values[0], values[1], values[2], values[3], values[4], values[5]) if len(values) == 6 else None
