"""Read SEG objects with highdicom and dcmqi, and check them with dciodvfy."""

import subprocess

import highdicom as hd
import numpy as np
import SimpleITK as sitk

BENIGN = {
    # PS3.3 C.12.1.5 has Device UID among the equipment's attributes; dicom3tools 1.00 does not know it there yet.
    "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
    "Warning - Dicom dataset contains attributes not present in standard DICOM IOD"
    " - this is a Standard Extended SOP Class",
}


def complaints(program, path):
    """Return the errors and warnings of dciodvfy, each line once."""
    done = subprocess.run([program("dciodvfy"), path], capture_output=True, text=True, check=False)
    return {line.strip() for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))}


def masks_by_highdicom(path, source):
    """Read the masks (segment, slice, row, column) of a SEG on the slices of its source with highdicom."""
    seg = hd.seg.segread(path)
    read = {"segment_numbers": [*seg.segment_numbers], "assert_missing_frames_are_empty": True}
    if source.frames[0].number == 1 and len({frame.sop_instance_uid for frame in source.frames}) > 1:
        pixels = seg.get_pixels_by_source_instance([frame.sop_instance_uid for frame in source.frames], **read)
    else:
        pixels = seg.get_pixels_by_source_frame(
            source.frames[0].sop_instance_uid, [frame.number for frame in source.frames], **read
        )
    return np.moveaxis(pixels, -1, 0).astype(bool)


def masks_by_dcmqi(program, path, source, folder):
    """Read the same masks with dcmqi: one cropped image per segment, placed on the source grid by its coordinates."""
    folder.mkdir()
    subprocess.run(
        [
            *(program("segimage2itkimage"), "--inputDICOM", path),
            *("--outputDirectory", folder, "--outputType", "nrrd"),
        ],
        check=True,
        capture_output=True,
    )
    masks = np.zeros((len(hd.seg.segread(path).segment_numbers), *source.geometry.shape), bool)
    to_index = np.linalg.inv(source.geometry.affine)
    for file in folder.glob("*.nrrd"):
        image = sitk.ReadImage(str(file))
        number = int(file.stem.split("-")[-1])
        for index in np.argwhere(sitk.GetArrayFromImage(image) > 0)[:, ::-1]:
            world = image.TransformIndexToPhysicalPoint([int(value) for value in index])
            place = (to_index @ [*world, 1])[:3]
            assert np.abs(place - place.round()).max() < 1e-3
            masks[number - 1, *place.round().astype(int)] = True
    return masks
