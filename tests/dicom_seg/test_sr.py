import json
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import highdicom as hd
import pytest
from pydicom import dcmread

from dicom_seg.check import check
from dicom_seg.encode import encode
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.result import IntermediateAdc


@pytest.fixture
def written(tmp_path, started):
    """Encode a result and write its objects; gives the paths of SEG and SR."""
    counter = iter(range(1000))

    def write(result, when=started):
        folder = tmp_path / f"out{next(counter)}"
        folder.mkdir()
        for encoded in encode(result, when):
            write_dicom(encoded.dataset, folder / encoded.file_name)
        return folder / "seg-t1ce.dcm", folder / "sr-measurements.dcm"

    return write


def groups(path):
    """The volumetric groups of a report, as highdicom reads them from the file."""
    return hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()


def test_groups_describe_and_refer_to_their_segments(make_result, written):
    result = make_result(orientation="sagittal")
    seg_path, sr_path = written(result)
    seg = dcmread(seg_path)
    for group, segment, label in zip(groups(sr_path), seg.SegmentSequence, PAPER_LABELS, strict=True):
        assert (group.tracking_identifier, group.tracking_uid) == (segment.TrackingID, segment.TrackingUID)
        assert group.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers == [label.number]
        sources = group.referenced_segment.source_series_for_segmentation
        assert sources.value == result.source(Role.T1CE).series.series_instance_uid
        assert group.finding_type.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
        assert group.finding_category.value == "49755003"
        assert [site.topographical_modifier or site.value.value for site in group.finding_sites] == ["12738006"]


def measured(group):
    """{(name, derivation, unit): value}"""
    return {
        (item.name.value, item.derivation.value if item.derivation else None, item.unit.value): item.value
        for item in group.get_measurements()
    }


ADC_DERIVATIONS = {
    "373098007": "mean",
    "373099004": "median",
    "255605001": "minimum",
    "56851009": "maximum",
    "386136009": "standard_deviation",
    "GPMT": "percentile_10",
    "OZ0C": "percentile_90",
}


def expected_numbers(measurement):
    numbers = {
        ("118565006", None, "cm3"): pytest.approx(measurement.volume_ml, rel=1e-5),
        ("246206008", None, "1"): measurement.lesion_count,
    }
    if measurement.adc:
        numbers |= {
            ("113041", code, "10-6.mm2/s"): pytest.approx(getattr(measurement.adc, name), rel=1e-5)
            for code, name in ADC_DERIVATIONS.items()
        }
    return numbers


def test_numbers_are_those_of_the_result(make_result, written):
    result = make_result()
    for group, measurement in zip(groups(written(result)[1]), result.measurements, strict=True):
        assert measured(group) == expected_numbers(measurement)


def test_the_experiment_is_a_group_of_its_own_whose_volume_is_not_that_of_the_segment(make_result, written, started):
    result = make_result()
    plain = groups(written(result)[1])
    first, *others = result.measurements
    found = replace(first, intermediate_adc=IntermediateAdc(first.volume_ml / 3, 1248.0, 780.0))
    result = replace(result, measurements=(found, *others))
    *labels, experiment = groups(written(result)[1])
    assert [measured(group) for group in labels] == [measured(group) for group in plain]
    assert experiment.tracking_identifier == "Intermediate ADC in Enhancing tumour (experiment)"
    assert experiment.tracking_uid not in {group.tracking_uid for group in labels}
    assert experiment.referenced_segment.referenced_segment_numbers == [1]
    assert measured(experiment) == {
        ("118565006", None, "cm3"): pytest.approx(first.volume_ml / 3, rel=1e-5),
        ("122411", None, "10-6.mm2/s"): 1248,
    }
    assert check(encode(result, started), result) == ()


def test_tid1500reader_reads_the_same_numbers(make_result, written, program, tmp_path):
    result = make_result()
    _, sr_path = written(result)
    out = tmp_path / "sr.json"
    subprocess.run(
        [program("tid1500reader"), "--inputDICOM", sr_path, "--outputMetadata", out], check=True, capture_output=True
    )
    read = json.loads(out.read_text())["Measurements"]
    for group, measurement, label in zip(read, result.measurements, PAPER_LABELS, strict=True):
        assert group["TrackingIdentifier"] == label.title
        assert group["ReferencedSegment"] == label.number
        assert group["segmentationSOPInstanceUID"] == dcmread(written(result)[0]).SOPInstanceUID
        numbers = {
            (
                item["quantity"]["CodeValue"],
                item.get("derivationModifier", {}).get("CodeValue"),
                item["units"]["CodeValue"],
            ): float(item["value"])
            for item in group["measurementItems"]
        }
        assert numbers == expected_numbers(measurement)


def test_focality_follows_the_lesion_count(make_result, written):
    result = make_result()
    result.masks[0] = False
    result.masks[0, 2, 3, 4] = True
    result.masks[1] = False
    result = make_result(result.masks)
    assert [m.lesion_count for m in result.measurements] == [1, 0, 2]
    judged = [
        {
            (item.name.value, item.value.value)
            for item in group.get_qualitative_evaluations()
            if item.name.scheme_designator != "DCM" and item.name.value != "276214006"  # algorithm, finding category
        }
        for group in groups(written(result)[1])
    ]
    flair = ("RID6049", "RID39467")
    assert judged == [{("C9440", "87017008")}, set(), {("C9440", "524008"), flair}]


def test_report_names_observer_procedure_and_algorithm(make_result, written, started):
    result = make_result()
    _, sr_path = written(result)
    report = hd.sr.srread(sr_path)
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert report.content[0].ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_type.value == "121007"
    device = observer.observer_identifying_attributes
    assert device.uid == report.ContributingEquipmentSequence[1].DeviceUID
    assert (device.name, device.model_name) == ("glionode", "phantom-demo 0.1.0")
    texts = Counter(item.value for item in _items(report) if item.ValueType == "TEXT")
    assert texts["Demonstration only, not for clinical use"] == 3
    assert texts[f"weights_sha256={result.model.sha256}"] == 3
    assert (report.ContentDate, report.ContentTime) == (f"{started:%Y%m%d}", f"{started:%H%M%S.%f}")
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def _items(report):
    waiting = list(report.content)
    while waiting:
        item = waiting.pop()
        yield item
        waiting += item.get("ContentSequence", [])


def test_notes_from_reading_a_series_are_algorithm_parameters(make_result, written):
    result = make_result()
    noted = "ADC computed here from 64 images with b = 0, 1000 s/mm2"
    sources = tuple(replace(each, notes=(noted,)) if each.role is Role.ADC else each for each in result.sources)
    parameters = [
        item.value for item in _items(hd.sr.srread(written(replace(result, sources=sources))[1])) if "TextValue" in item
    ]
    assert parameters.count(f"ADC: {noted}") == len(PAPER_LABELS)
    unnoted = [item.value for item in _items(hd.sr.srread(written(result)[1])) if "TextValue" in item]
    assert f"ADC: {noted}" not in unnoted


def test_evidence_is_the_seg_and_every_source_image(make_result, written):
    result = make_result(enhanced=True)
    seg_path, sr_path = written(result)
    expected = {dcmread(seg_path).SOPInstanceUID} | {
        frame.sop_instance_uid for source in result.sources for frame in source.frames
    }
    evidence = hd.sr.srread(sr_path).get_evidence()
    assert {str(item[2]) for item in evidence} == expected
    assert len(evidence) == len(expected)
    classes = {str(item[2]): str(item[3]) for item in evidence}
    library = [
        item for item in _items(hd.sr.srread(sr_path)) if item.ValueType == "IMAGE" and item.name.value == "260753009"
    ]
    assert len(library) == 3
    for item in library:
        reference = item.ReferencedSOPSequence[0]
        assert classes[reference.ReferencedSOPInstanceUID] == reference.ReferencedSOPClassUID


@pytest.mark.parametrize(
    ("use", "stated"),
    [(IntendedUse.DEMONSTRATION, True), (IntendedUse.RESEARCH, False), (IntendedUse.CLINICAL, False)],
)
def test_limited_intended_use_is_stated(use, stated, make_result, written):
    report = dcmread(written(make_result(intended_use=use))[1])
    assert report.SeriesDescription.startswith("Demonstration only") is stated


def test_same_inputs_give_the_same_bytes_and_a_later_start_only_other_times_and_uids(make_result, written, started):
    result = make_result()
    first, second = written(result)[1], written(result)[1]
    assert first.read_bytes() == second.read_bytes()
    later = dcmread(written(result, started + timedelta(days=1, minutes=3))[1])
    differing = {element.keyword for element in later if element != dcmread(first)[element.tag]}
    uids = {"SOPInstanceUID", "SeriesInstanceUID"}
    uids_of_the_seg = {"ContentSequence", "CurrentRequestedProcedureEvidenceSequence"}
    assert differing == {"ContentDate", "ContentTime", "SeriesDate", "SeriesTime", *uids, *uids_of_the_seg}


def test_names_survive_in_their_character_sets(make_result, written, program, caplog):
    caplog.set_level("DEBUG")
    japanese, german = "Yamada^Tarou=山田^太郎=やまだ^たろう", "Müßig^Jörg"
    _, sr_path = written(make_result(patient_name=japanese, character_set=["", "ISO 2022 IR 87"]))
    assert str(dcmread(sr_path).PatientName) == japanese
    assert "山田".encode("iso2022_jp") in sr_path.read_bytes()
    assert "Yamada" not in caplog.text
    _, sr_path = written(make_result(patient_name=german, character_set="ISO_IR 100"))
    dump = subprocess.run([program("dsrdump"), "+U8", sr_path], capture_output=True, check=True)
    assert german in dump.stdout.decode()
