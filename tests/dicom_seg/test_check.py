"""The check of encoded objects: sound ones pass, and each damage is named on its own, without the patient."""

import re
import time
from copy import deepcopy
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.uid import ImplicitVRLittleEndian

from dicom_seg.check import check
from dicom_seg.encode import Outputs, encode
from models.labels import Role
from pipeline.read import read_volume
from pipeline.scan import scan

FILES = (
    *("seg-t1ce.dcm", "seg-flair.dcm", "seg-adc.dcm", "sr-measurements.dcm", "sr-diameters.dcm"),
    *("capture-01.dcm", "capture-02.dcm"),
)


@pytest.fixture(scope="module")
def lasting(make_lasting_result, with_everything, started):
    """A result with all kinds of objects, and these objects as bytes."""
    result = with_everything(make_lasting_result(orientation="oblique"))
    objects = encode(result, started, Outputs())
    assert [each.file_name for each in objects] == [*FILES]
    return result, [(each, as_bytes(each.dataset)) for each in objects]


def as_bytes(dataset):
    written = BytesIO()
    dcmwrite(written, dataset)
    return written.getvalue()


@pytest.fixture
def encoded(lasting):
    """A result, its objects read back from bytes, and their data sets by file name; a test may damage them."""
    result, written = lasting
    objects = [replace(each, dataset=dcmread(BytesIO(content))) for each, content in written]
    return result, objects, {each.file_name: each.dataset for each in objects}


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_what_we_encode_passes(orientation, enhanced, make_result, with_everything, started):
    result = with_everything(make_result(orientation=orientation, enhanced=enhanced))
    assert check(encode(result, started, Outputs()), result) == ()


def test_an_empty_result_passes(make_result, started):
    result = make_result(np.zeros((3, 7, 13, 11), bool))
    assert check(encode(result, started, Outputs()), result) == ()


def test_malformed_uids_of_the_scanner_pass(make_result, started):
    result = make_result()
    invalid = "1.2.03.4"
    sources = []
    for source in result.sources:
        if source.role is Role.T1CE:
            with disable_value_validation():
                for instance in source.series.instances:
                    header = dcmread(instance.path)
                    header.SeriesInstanceUID = invalid
                    dcmwrite(instance.path, header)
            instances = tuple(replace(each, series_instance_uid=invalid) for each in source.series.instances)
            series = replace(source.series, series_instance_uid=invalid, instances=instances)
            source = replace(source, series=series)  # noqa: PLW2901
        sources.append(source)
    result = replace(result, sources=tuple(sources))
    assert check(encode(result, started, Outputs()), result) == ()


def test_an_adc_map_that_saturates_passes(make_result, started):
    # Many maps end at 4095, whatever free water does; refusing them would refuse their patients.
    result = make_result()
    measurements = tuple(
        replace(each, adc=each.adc and replace(each.adc, maximum=4095.0, percentile_90=4095.0))
        for each in result.measurements
    )
    result = replace(result, measurements=measurements)
    assert check(encode(result, started, Outputs()), result) == ()


def test_directions_that_the_scanner_rounded_pass(make_altered, started):
    def change(header, number):
        header.ImageOrientationPatient = [f"{float(value):.2f}" for value in header.ImageOrientationPatient]

    result = make_altered(change, orientation="double oblique")
    t1ce = result.source(Role.T1CE)
    ((series,),) = (study.series for study in scan([t1ce.series.instances[0].path.parent]).studies)
    volume = read_volume(series, Role.T1CE)
    rounded = volume.geometry.voxel_volume_mm3 / t1ce.geometry.voxel_volume_mm3
    assert abs(rounded - 1) > 0.002  # more than the check tolerates
    t1ce = replace(t1ce, series=series, geometry=volume.geometry, frames=volume.frames)
    measurements = tuple(replace(each, volume_ml=each.volume_ml * rounded) for each in result.measurements)
    result = replace(result, sources=(*result.sources[:2], t1ce), measurements=measurements)
    assert check(encode(result, started, Outputs()), result) == ()


def test_a_frame_of_reference_for_every_image_passes(make_altered, started):
    def change(header, number):
        header.FrameOfReferenceUID = f"1.2.3.{number + 1}"

    result = make_altered(change)
    t1ce = result.source(Role.T1CE)
    ((series,),) = (study.series for study in scan([t1ce.series.instances[0].path.parent]).studies)
    volume = read_volume(series, Role.T1CE)
    t1ce = replace(t1ce, series=series, geometry=volume.geometry, frames=volume.frames)
    result = replace(result, sources=(*result.sources[:2], t1ce))
    assert check(encode(result, started, Outputs()), result) == ()


def first_frame(seg):
    return seg.PerFrameFunctionalGroupsSequence[0]


def swap_derivations(objects):
    first, second = objects["seg-t1ce.dcm"].PerFrameFunctionalGroupsSequence[:2]
    one, other = deepcopy(first.DerivationImageSequence), deepcopy(second.DerivationImageSequence)
    first.DerivationImageSequence, second.DerivationImageSequence = other, one


def empty_derivation(objects):
    first_frame(objects["seg-t1ce.dcm"]).DerivationImageSequence = []


def unlisted_derivation(objects):
    derivation = deepcopy(first_frame(objects["seg-t1ce.dcm"]).DerivationImageSequence)
    derivation[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    first_frame(objects["seg-t1ce.dcm"]).DerivationImageSequence = derivation


def two_sources(objects):
    derivation = deepcopy(first_frame(objects["seg-t1ce.dcm"]).DerivationImageSequence)
    derivation[0].SourceImageSequence.append(deepcopy(derivation[0].SourceImageSequence[0]))
    first_frame(objects["seg-t1ce.dcm"]).DerivationImageSequence = derivation


def move_frame(objects):
    plane = deepcopy(first_frame(objects["seg-t1ce.dcm"]).PlanePositionSequence)
    plane[0].ImagePositionPatient[1] += 0.002
    first_frame(objects["seg-t1ce.dcm"]).PlanePositionSequence = plane


def flip_a_voxel(objects):
    seg = objects["seg-flair.dcm"]
    seg.PixelData = bytes([seg.PixelData[0] ^ 1]) + seg.PixelData[1:]


def cut_pixels(objects):
    objects["seg-adc.dcm"].PixelData = objects["seg-adc.dcm"].PixelData[:-2]


def more_bits(objects):
    objects["seg-adc.dcm"].BitsAllocated = 8


def drop_a_frame(objects):
    seg = objects["seg-flair.dcm"]
    size = -(-seg.NumberOfFrames * seg.Rows * seg.Columns // 8)
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1
    kept = -(-seg.NumberOfFrames * seg.Rows * seg.Columns // 8)
    assert size > kept
    seg.PixelData = seg.PixelData[: kept + kept % 2]


def rotate(objects):
    shared = objects["seg-adc.dcm"].SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def widen(objects):
    shared = objects["seg-adc.dcm"].SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [2.0, 2.001]


def transpose(objects):
    seg = objects["seg-adc.dcm"]
    seg.Rows, seg.Columns = seg.Columns, seg.Rows


def other_frame_of_reference(objects):
    objects["seg-adc.dcm"].FrameOfReferenceUID = "1.2.3"


def second_series(objects):
    series = objects["seg-t1ce.dcm"].ReferencedSeriesSequence
    series.append(deepcopy(objects["seg-flair.dcm"].ReferencedSeriesSequence[0]))


def segment_from_zero(objects):
    objects["seg-flair.dcm"].SegmentSequence[0].SegmentNumber = 0


def unknown_segment_in_a_frame(objects):
    # The sequence is shared by all frames of the segment.
    own = deepcopy(first_frame(objects["seg-t1ce.dcm"]).SegmentIdentificationSequence)
    own[0].ReferencedSegmentNumber = 4
    first_frame(objects["seg-t1ce.dcm"]).SegmentIdentificationSequence = own


def frame_twice(objects):
    frames = objects["seg-flair.dcm"].PerFrameFunctionalGroupsSequence
    frames[1] = deepcopy(frames[0])


def same_tracking(objects):
    segments = objects["seg-t1ce.dcm"].SegmentSequence
    segments[1].TrackingUID = segments[0].TrackingUID


def other_patient(objects):
    objects["seg-adc.dcm"].PatientID = "P-2"
    objects["capture-01.dcm"].PatientName = "Roe^Richard"


def other_study(objects):
    objects["sr-diameters.dcm"].StudyInstanceUID = "1.2.3"


def broken_uids(objects):
    with disable_value_validation():
        objects["seg-t1ce.dcm"].SegmentSequence[1].TrackingUID = "2.25.01"
        objects["sr-measurements.dcm"].SeriesInstanceUID = "2.25." + "9" * 60


def other_syntax(objects):
    objects["capture-02.dcm"].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def same_instance(objects):
    sr, seg = objects["capture-02.dcm"], objects["capture-01.dcm"]
    sr.SOPInstanceUID = sr.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID


def other_file_header(objects):
    meta = objects["capture-02.dcm"].file_meta
    meta.MediaStorageSOPInstanceUID = meta.MediaStorageSOPClassUID = "1.2.3"


def in_the_source_series(objects):
    capture = objects["capture-01.dcm"]
    capture.SeriesInstanceUID = objects["seg-t1ce.dcm"].ReferencedSeriesSequence[0].SeriesInstanceUID


def no_evidence(objects):
    del objects["sr-diameters.dcm"].CurrentRequestedProcedureEvidenceSequence


def evidence_of(report):
    for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
        yield from series.ReferencedSOPSequence


def dangling_evidence(objects):
    for item in [*evidence_of(objects["sr-diameters.dcm"])][-2:]:
        item.ReferencedSOPInstanceUID = "1.2.3"


def evidence_of_another_class(objects):
    for item in [*evidence_of(objects["sr-diameters.dcm"])][-2:]:
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def evidence_in_another_series(objects):
    series = objects["sr-diameters.dcm"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series[0].SeriesInstanceUID = "1.2.3"


def items(item, value_type):
    """Content items of one value type, at any depth."""
    for child in item.get("ContentSequence", ()):
        if child.ValueType == value_type:
            yield child
        yield from items(child, value_type)


def measured(report, code):
    return [
        item.MeasuredValueSequence[0]
        for item in items(report, "NUM")
        if item.ConceptNameCodeSequence[0].CodeValue == code
    ]


def unknown_segment(objects):
    for item in items(objects["sr-measurements.dcm"], "IMAGE"):
        if item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber") == 2:
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 4


def negative_volume(objects):
    measured(objects["sr-measurements.dcm"], "118565006")[1].NumericValue = "-1.5"


def other_volume(objects):
    value = measured(objects["sr-measurements.dcm"], "118565006")[2]
    value.NumericValue = f"{float(value.NumericValue) * 1.003:.6g}"


def impossible_adc(objects):
    values = measured(objects["sr-measurements.dcm"], "113041")
    assert values[0].MeasurementUnitsCodeSequence[0].CodeValue == "10-6.mm2/s"
    values[0].NumericValue = "4000.5"


def negative_diameter(objects):
    measured(objects["sr-diameters.dcm"], "103339001")[0].NumericValue = "-12.5"


def region_outside(objects):
    next(items(objects["sr-diameters.dcm"], "SCOORD")).GraphicData[2] = 11.25


def region_of_no_image(objects):
    del next(items(objects["sr-diameters.dcm"], "SCOORD")).ContentSequence


def capture_of_nothing(objects):
    del objects["capture-02.dcm"].SourceImageSequence


def capture_of_another(objects):
    objects["capture-02.dcm"].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def no_segments(objects):
    del objects["seg-adc.dcm"].SegmentSequence


UID = r"[0-9.]+[0-9]"
NOT_THE_MASKS = "its voxels are not those of the masks."


@pytest.mark.parametrize(
    ("damage", "expected_problems"),
    [
        (
            swap_derivations,
            {"seg-t1ce": [f"frame 1 and 1 more: its position is not that of .* {UID}.", NOT_THE_MASKS]},
        ),
        (empty_derivation, {"seg-t1ce": ["frame 1: no source image.", NOT_THE_MASKS]}),
        (
            unlisted_derivation,
            {"seg-t1ce": ["frame 1: derived from 1.2.3, which is not among .* series.", NOT_THE_MASKS]},
        ),
        (two_sources, {"seg-t1ce": ["frame 1: more than one source image."]}),
        (move_frame, {"seg-t1ce": [f"frame 1: its position is not that of source image {UID}."]}),
        (flip_a_voxel, {"seg-flair": [NOT_THE_MASKS]}),
        (cut_pixels, {"seg-adc": ["its 4 frames have 4 descriptions, and 34 bytes of pixels instead of 36."]}),
        (more_bits, {"seg-adc": ["its voxels are not 0 and 1 in single bits .*"]}),
        (drop_a_frame, {"seg-flair": [NOT_THE_MASKS]}),
        (rotate, {"seg-adc": [f"frame 1 and 3 more: its orientation is not that of source image {UID}."]}),
        (widen, {"seg-adc": [f"frame 1 and 3 more: its pixel spacing is not that of source image {UID}."]}),
        (
            transpose,
            {"seg-adc": [f"frame 1 and 3 more: its rows and columns are not those of .* {UID}.", NOT_THE_MASKS]},
        ),
        (
            other_frame_of_reference,
            {"seg-adc": [f"frame 1 and 3 more: its frame of reference is not that of source image {UID}."]},
        ),
        (second_series, {"seg-t1ce": ["it refers to 2 series instead of one."]}),
        (
            segment_from_zero,
            {
                "seg-flair": [
                    "its segments are not numbered from 1 without gaps.",
                    "frame 1 and 3 more: its segment is not described.",
                ]
            },
        ),
        (
            unknown_segment_in_a_frame,
            {
                "seg-t1ce": ["frame 1: its segment is not described.", NOT_THE_MASKS],
                "sr-measurements": ["the volume of segment 1 is not that of the segment's voxels .*"],
            },
        ),
        (
            frame_twice,
            {"seg-flair": [f"frame 2: a second frame of the same segment on source image {UID}.", NOT_THE_MASKS]},
        ),
        (same_tracking, {"seg-t1ce": ["two of its segments have the same TrackingUID."]}),
        (
            other_patient,
            {
                "seg-adc": [f"its PatientID is not that of source series {UID}."],
                "capture-01": [f"its PatientName is not that of source series {UID}."],
            },
        ),
        (other_study, {"sr-diameters": [f"its StudyInstanceUID is not that of source series {UID}."]}),
        (
            broken_uids,
            {
                "seg-t1ce": ["TrackingUID holds no valid UID."],
                "sr-measurements": ["SeriesInstanceUID holds no valid UID."],
            },
        ),
        (other_syntax, {"capture-02": ["its transfer syntax is not Explicit VR Little Endian."]}),
        (same_instance, {"capture-02": ["it has the same SOP instance UID as capture-01.dcm."]}),
        (
            other_file_header,
            {
                "capture-02": [
                    "its file meta information names another SOP instance.",
                    "its file meta information names another SOP class.",
                ]
            },
        ),
        (in_the_source_series, {"capture-01": ["it is in the same series as a source image."]}),
        (no_evidence, {"sr-diameters": [f"it refers to {UID} and 1 more without listing it as evidence."]}),
        (dangling_evidence, {"sr-diameters": ["it refers to 1.2.3, which cannot be found."]}),
        (evidence_of_another_class, {"sr-diameters": [f"it refers to {UID} and 1 more, with the wrong SOP class."]}),
        (evidence_in_another_series, {"sr-diameters": [f"it refers to {UID} and 6 more, in the wrong series."]}),
        (unknown_segment, {"sr-measurements": [f"it refers to a segment that SEG {UID} does not have."]}),
        (negative_volume, {"sr-measurements": ["the volume of segment 2 is not that of .*", "a volume is negative."]}),
        (other_volume, {"sr-measurements": ["the volume of segment 3 is not that of the segment's voxels .*"]}),
        (impossible_adc, {"sr-measurements": ["an ADC is not between 0 and 4000 x 10\\^-6 mm2/s."]}),
        (negative_diameter, {"sr-diameters": ["a count or length is negative."]}),
        (region_outside, {"sr-diameters": [f"a region lies outside image {UID}."]}),
        (region_of_no_image, {"sr-diameters": ["a region refers to no image."]}),
        (capture_of_nothing, {"capture-02": ["it names no source image."]}),
        (capture_of_another, {"capture-02": ["it refers to 1.2.3, which cannot be found."]}),
        (no_segments, {"seg-adc": ["it has no SegmentSequence, so the rest of it was not checked."]}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_damage_is_reported_alone_and_without_the_patient(damage, expected_problems, encoded):
    result, objects, by_name = encoded
    damage(by_name)
    problems = check(objects, result)
    expected = [f"{name}.dcm: {sentence}" for name, sentences in expected_problems.items() for sentence in sentences]
    assert len(problems) == len(expected), problems
    for problem, pattern in zip(problems, expected, strict=True):
        assert re.fullmatch(pattern.replace(".dcm", r"\.dcm"), problem), problem
    text = " ".join(problems)
    assert not any(word in text for word in ("Doe", "Roe", "P-1", "P-2", "1960"))


def test_masks_of_another_result_are_reported(encoded):
    result, objects, _ = encoded
    problems = check(objects, replace(result, masks=result.masks[:, :, ::-1].copy()))
    assert problems == (f"seg-t1ce.dcm: {NOT_THE_MASKS}",)
    flair, adc = result.native
    problems = check(objects, replace(result, native=(replace(flair, masks=~flair.masks), adc)))
    assert problems == (f"seg-flair.dcm: {NOT_THE_MASKS}",)


def test_checking_many_slices_is_fast(make_result, started):
    result = make_result(np.random.default_rng(4).random((3, 512, 64, 64)) < 0.3, shape=(512, 64, 64))
    objects = encode(result, started, Outputs())
    assert objects[0].dataset.NumberOfFrames == 3 * 512
    before = time.process_time()
    assert check(objects, result) == ()
    assert time.process_time() - before < 1.5  # 0.3 s on an idle core


def test_a_volume_that_came_in_two_series_names_the_series_of_each_image(make_result, with_everything, started):
    result = with_everything(make_result())
    t1ce = result.source(Role.T1CE)
    other = "1.2.3.4"
    instances = []
    for number, instance in enumerate(t1ce.series.instances):
        if number % 2:
            header = dcmread(instance.path)
            header.SeriesInstanceUID = other
            dcmwrite(instance.path, header)
            instance = replace(instance, series_instance_uid=other)  # noqa: PLW2901
        instances.append(instance)
    series_of = {each.sop_instance_uid: each.series_instance_uid for each in instances}
    frames = tuple(replace(each, series_instance_uid=series_of[each.sop_instance_uid]) for each in t1ce.frames)
    t1ce = replace(t1ce, series=replace(t1ce.series, instances=tuple(instances)), frames=frames)
    result = replace(result, sources=(*result.sources[:2], t1ce))
    objects = encode(result, started)
    assert check(objects, result) == ()
    by_name = {each.file_name: each.dataset for each in objects}
    listed = {
        item.ReferencedSOPInstanceUID: series.SeriesInstanceUID
        for series in by_name["seg-t1ce.dcm"].ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert listed == series_of
    for name in ("sr-measurements.dcm", "sr-diameters.dcm"):
        evidence = {
            item.ReferencedSOPInstanceUID: series.SeriesInstanceUID
            for study in by_name[name].CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        assert {uid: evidence[uid] for uid in series_of} == series_of


def test_a_seg_that_refers_to_a_part_of_two_volumes_is_named(encoded):
    result, objects, by_name = encoded
    series = by_name["seg-t1ce.dcm"].ReferencedSeriesSequence
    series.append(deepcopy(by_name["seg-flair.dcm"].ReferencedSeriesSequence[0]))
    assert any("it refers to 2 series instead of one" in each for each in check(objects, result))
