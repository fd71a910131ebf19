"""Find the frame of reference of a stack whose images do not all name the same one."""

from collections import Counter

from models.labels import Role
from pipeline.errors import FramesOfReferenceDiffer
from pipeline.frames import PlacedFrame
from pipeline.remarks import Remark, RemarkKind


def common_frame_of_reference(uid: str, frames: tuple[PlacedFrame, ...], role: Role) -> tuple[str, tuple[Remark, ...]]:
    """Return the frame of reference of frames that stand in one regular stack, and what to say about it.

    Some converters give every image one of its own: then the regular stack proves that they are one, and the first
    stands for all. Images that name none belong to the others. Several frames of reference that have several images
    each are several acquisitions, whose positions cannot be compared (PS3.3 C.7.4.1); so is a single stray image.
    Raises FramesOfReferenceDiffer.
    """
    images = {frame.instance.sop_instance_uid: frame.instance.frame_of_reference_uid for frame in frames}
    counts = Counter(images.values())
    unnamed = counts.pop("", 0)
    if not counts:
        return "", ()
    first = next(frame.instance.frame_of_reference_uid for frame in frames if frame.instance.frame_of_reference_uid)
    if len(counts) == 1:
        text = f"{unnamed} images of {role} name no frame of reference; that of the others was taken."
        return first, (Remark(RemarkKind.HEADERS, text, (role,)),) if unnamed else ()
    if len(counts) > 2 and max(counts.values()) == 1:
        text = (
            f"Every image of {role} names a frame of reference of its own; they were read as one series because their "
            "positions make one regular stack. A viewer may not show the result over all of them."
        )
        return first, (Remark(RemarkKind.HEADERS, text, (role,)),)
    named = ", ".join(str(count) for _, count in counts.most_common(5))
    raise FramesOfReferenceDiffer(
        f"Series {uid}: its images have {len(counts)} frames of reference (0020,0052), with {named} images, so "
        "their positions cannot be compared. Send each as a series of its own, or the series without stray images."
    )
