"""Masks to SEG and back through other programs: every voxel stays in its position, for any source geometry."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread

from models.labels import ADC_ABNORMALITY, FLAIR_HYPERINTENSITY, PAPER_LABELS, Role
from pipeline.result import MasksOnSeries
from tests.support.seg_readers import BENIGN, complaints, masks_by_dcmqi, masks_by_highdicom

CASES = [
    ("axial", (7, 13, 11), False),
    ("axial", (8, 16, 8), False),
    ("sagittal", (6, 15, 9), False),
    ("coronal", (5, 9, 15), False),
    ("tilted", (7, 13, 11), False),
    ("double oblique", (6, 11, 9), True),
    ("oblique", (9, 11, 13), False),
    ("oblique", (7, 13, 11), True),
]


@pytest.mark.parametrize(("orientation", "shape", "enhanced"), CASES)
def test_readers_find_our_voxels_on_the_source_grid(
    orientation, shape, enhanced, make_result, write_seg, program, tmp_path
):
    result = make_result(orientation=orientation, shape=shape, enhanced=enhanced)
    assert result.masks.all(axis=0).any()  # overlapping segments come out one by one
    source = result.source(Role.T1CE)
    path = write_seg(result)
    assert np.array_equal(masks_by_highdicom(path, source), result.masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), result.masks)
    assert complaints(program, path) == BENIGN


@pytest.mark.parametrize("shape", [(5, 1, 1), (4, 1, 9), (3, 7, 1), (2, 3, 5)])
def test_thin_images(shape, make_result, write_seg, program, tmp_path):
    masks = np.random.default_rng(8).random((3, *shape)) < 0.5
    masks[:, -1, -1, -1] = True
    result = make_result(masks, orientation="coronal", shape=shape)
    source = result.source(Role.T1CE)
    path = write_seg(result)
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), masks)
    assert complaints(program, path) == BENIGN


def test_files_from_the_last_slice_to_the_first(make_result, write_seg, program, tmp_path):
    result = make_result(orientation="sagittal", descending=True)
    source = result.source(Role.T1CE)
    numbers = [dcmread(instance.path).InstanceNumber for instance in source.series.instances]
    uids = [instance.sop_instance_uid for instance in source.series.instances]
    assert numbers == sorted(numbers)
    assert uids == [frame.sop_instance_uid for frame in source.frames][::-1]
    path = write_seg(result)
    assert np.array_equal(masks_by_highdicom(path, source), result.masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), result.masks)


def test_512_slices(make_result, write_seg, program, tmp_path):
    masks = np.random.default_rng(2).random((3, 512, 3, 5)) < 0.2
    result = make_result(masks, orientation="sagittal", shape=(512, 3, 5), spacing_mm=(0.5, 0.9, 0.9))
    source = result.source(Role.T1CE)
    path = write_seg(result)
    assert dcmread(path).NumberOfFrames == masks.any(axis=(2, 3)).sum()
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), masks)


@pytest.mark.parametrize("one_frame_of_reference", [True, False])
@pytest.mark.parametrize(("role", "label"), [(Role.FLAIR, FLAIR_HYPERINTENSITY), (Role.ADC, ADC_ABNORMALITY)])
def test_one_label_on_the_series_that_defines_it(
    role, label, one_frame_of_reference, make_result, write_seg, program, tmp_path
):
    result = make_result(orientation="sagittal", one_frame_of_reference=one_frame_of_reference)
    source = result.source(role)
    masks = np.random.default_rng(3).random((1, *source.geometry.shape)) < 0.3
    path = write_seg(result, on=MasksOnSeries(role, (label,), masks))
    seg, on_t1ce = dcmread(path), dcmread(write_seg(result))
    (segment,) = seg.SegmentSequence
    assert (segment.SegmentNumber, segment.SegmentLabel) == (1, label.title)
    assert segment.TrackingUID == on_t1ce.SegmentSequence[label.number - 1].TrackingUID
    assert {seg.SOPInstanceUID, seg.SeriesInstanceUID}.isdisjoint({on_t1ce.SOPInstanceUID, on_t1ce.SeriesInstanceUID})
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series.series_instance_uid
    assert seg.FrameOfReferenceUID == source.geometry.frame_of_reference_uid
    assert (seg.FrameOfReferenceUID == on_t1ce.FrameOfReferenceUID) is one_frame_of_reference
    assert role in seg.SeriesDescription
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), masks)
    assert complaints(program, path) == BENIGN


def test_label_without_voxels_keeps_its_segment(make_result, write_seg, program, tmp_path):
    result = make_result()
    result.masks[1] = False
    path = write_seg(result)
    seg = dcmread(path)
    counts = Counter(
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in seg.PerFrameFunctionalGroupsSequence
    )
    assert [counts[number] for number in (1, 2, 3)] == result.masks.any(axis=(2, 3)).sum(axis=1).tolist()
    assert len(seg.SegmentSequence) == 3
    source = result.source(Role.T1CE)
    assert np.array_equal(masks_by_highdicom(path, source), result.masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), result.masks)
    assert complaints(program, path) == BENIGN


@pytest.mark.parametrize("enhanced", [False, True])
def test_empty_result_is_a_valid_seg_with_three_empty_segments(enhanced, make_result, write_seg, program, tmp_path):
    result = make_result(np.zeros((3, 7, 13, 11), bool), enhanced=enhanced)
    path = write_seg(result)
    seg = dcmread(path)
    assert seg.NumberOfFrames == 3
    assert not any(seg.PixelData)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == [label.title for label in PAPER_LABELS]
    source = result.source(Role.T1CE)
    assert not masks_by_highdicom(path, source).any()
    assert not masks_by_dcmqi(program, path, source, tmp_path / "itk").any()
    assert complaints(program, path) == BENIGN


def test_single_voxel(make_result, write_seg, program, tmp_path):
    masks = np.zeros((3, 7, 13, 11), bool)
    masks[0, 0, 12, 10] = True
    result = make_result(masks, orientation="sagittal")
    path = write_seg(result)
    source = result.source(Role.T1CE)
    assert dcmread(path).NumberOfFrames == 1
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    assert np.array_equal(masks_by_dcmqi(program, path, source, tmp_path / "itk"), masks)
    assert complaints(program, path) == BENIGN


def test_orientations_that_differ_by_rounding(make_altered, write_seg):
    def change(header, number):
        orientation = [float(value) for value in header.ImageOrientationPatient]
        orientation[0] += number * 1e-6
        header.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]

    result = make_altered(change, orientation="oblique")
    assert np.array_equal(masks_by_highdicom(write_seg(result), result.source(Role.T1CE)), result.masks)


MM = st.floats(0.2, 9).map(lambda value: round(value, 4))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rotation=arrays(float, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1),
    shape=st.tuples(st.integers(2, 6), st.integers(1, 12), st.integers(1, 12)),
    spacing_mm=st.tuples(MM, MM, MM),
    origin_mm=st.tuples(*[st.floats(-300, 300)] * 3),
    filled=st.floats(0, 1),
    seed=st.integers(0, 99),
    enhanced=st.booleans(),
)
def test_any_geometry(rotation, shape, spacing_mm, origin_mm, filled, seed, enhanced, make_result, write_seg):
    masks = np.random.default_rng(seed).random((3, *shape)) < filled
    result = make_result(
        masks,
        orientation=rotation_matrix(rotation),
        shape=shape,
        spacing_mm=spacing_mm,
        origin_mm=origin_mm,
        enhanced=enhanced,
    )
    source = result.source(Role.T1CE)
    path = write_seg(result)
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    # Headers have ten digits.
    corners = places_of_corners(dcmread(path), source)
    for (frame, slice_index), corner in corners.items():
        _, rows, columns = shape
        wanted = [(source.geometry.affine @ [slice_index, *end, 1])[:3] for end in ((0, 0), (rows - 1, columns - 1))]
        assert np.abs(corner - wanted).max() < 1e-6, frame


def places_of_corners(seg, source):
    """Return world coordinates of the first and last voxel of each frame: by the frame, and by its source slice."""
    slices = {(frame.sop_instance_uid, frame.number): index for index, frame in enumerate(source.frames)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows_mm, columns_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    across = (seg.Rows - 1) * rows_mm * orientation[3:] + (seg.Columns - 1) * columns_mm * orientation[:3]
    places = {}
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        index = slices[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]
        places[number, index] = np.array([first, first + across])
    return places


def rotation_matrix(quaternion):
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
