"""Recognise images that hold many slices side by side: mosaics of Siemens, grids of United Imaging."""

from pipeline.frames import PlacedFrame
from pipeline.header import Header
from pipeline.private_elements import PrivateElement, private_numbers, tags_to_read

_TILE_COUNTS = (
    PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0A, "US", "SIEMENS"),  # NumberOfImagesInMosaic
    PrivateElement(0x0065, "Image Private Header", 0x50, "DS", "UIH"),  # number of images in a grid
)
MOSAIC_TAGS = tags_to_read(_TILE_COUNTS)
_TYPES = frozenset({"MOSAIC", "VFRAME"})
_WIDEST_HEAD_MM = 350.0
"""An image with a count of tiles that is not wider is one of them: programs that split mosaics leave the count."""
_WIDEST_IMAGE_MM = 500.0
"""No scanner's field of view is wider; tiles of a head side by side are, also where no header tells."""


def tile_count(header: Header, manufacturer: str) -> int:
    """Return how many slices an image says it holds; 1 if it does not say."""
    counts = (private_numbers(header, element, manufacturer) for element in _TILE_COUNTS)
    return max((int(numbers[0]) for numbers in counts if numbers), default=1)


def is_mosaic(frame: PlacedFrame) -> bool:
    """Return whether a frame holds several slices, by its image type, its count of tiles or its size."""
    if _TYPES & {*frame.image_type, *frame.instance.image_type}:
        return True
    image, spacing = frame.instance, frame.pixel_spacing_mm
    if spacing is None:
        return image.tile_count > 1
    width_mm = max(image.rows * spacing[0], image.columns * spacing[1])
    return width_mm > (_WIDEST_HEAD_MM if image.tile_count > 1 else _WIDEST_IMAGE_MM)
