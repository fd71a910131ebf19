"""Compare the masks of SEG objects on T1CE, with each other and with a truth in NIfTI."""

from pathlib import Path

import numpy as np


def dice_between(one: Path, other: Path) -> dict[str, float]:
    """Return the Dice of each label between two SEG objects on the same images."""
    from highdicom.seg import segread

    from models.labels import PAPER_LABELS
    from pipeline.measure import dice

    segs = segread(one), segread(other)
    uids = list(dict.fromkeys(uid for seg in segs for _, _, uid in seg.get_source_image_uids()))
    first, second = (
        seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True) > 0
        for seg in segs
    )
    return {
        label.name: round(float(dice(first[..., row], second[..., row])), 4) for row, label in enumerate(PAPER_LABELS)
    }


def dice_against_truth(path: Path, truth_path: Path) -> dict[str, float]:
    """Return the Dice of each label of a SEG against bit masks, as `glionode phantom` writes them, on T1CE's grid."""
    import SimpleITK as sitk
    from highdicom.seg import segread

    from models.labels import PAPER_LABELS
    from pipeline.measure import dice

    truth = sitk.ReadImage(str(truth_path))
    bits = sitk.GetArrayFromImage(truth)
    found = np.zeros((len(PAPER_LABELS), *bits.shape), bool)
    seg = segread(path)
    for frame, item in zip(np.atleast_3d(seg.pixel_array), seg.PerFrameFunctionalGroupsSequence, strict=True):
        place_frame(found, frame, item, seg, truth)
    return {
        label.name: round(float(dice(mask, (bits >> (label.number - 1)) & 1 == 1)), 4)
        for label, mask in zip(PAPER_LABELS, found, strict=True)
    }


def place_frame(found, frame, item, seg, truth) -> None:  # type: ignore[no-untyped-def]
    """Set the voxels of one frame in `found` at their place in the truth's grid, whatever the frame's orientation."""
    rows, columns = np.nonzero(frame)
    if not len(rows):
        return
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
    points = position + np.outer(columns * spacing[1], orientation[:3]) + np.outer(rows * spacing[0], orientation[3:])
    directions = np.array(truth.GetDirection()).reshape(3, 3)
    index = np.linalg.solve(directions * np.array(truth.GetSpacing()), (points - np.array(truth.GetOrigin())).T)
    assert np.abs(index - np.round(index)).max() < 0.02, "the SEG does not lie on the truth's grid"
    x, y, z = np.round(index).astype(int)
    segment = item.SegmentIdentificationSequence if "SegmentIdentificationSequence" in item else None
    number = (segment or shared.SegmentIdentificationSequence)[0].ReferencedSegmentNumber
    found[number - 1, z, y, x] = True
