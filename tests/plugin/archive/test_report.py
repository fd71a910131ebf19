"""The keys, names and units of `report.json`, which scripts of sites depend on."""

import json
from dataclasses import replace

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.alignment import AlignmentEvidence, RoleAlignment
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import AdcStatistics, Inferred, IntermediateAdc, LabelMeasurement, ModelIdentity, NotReported
from pipeline.role_coverage import RoleCoverage, Side, UnseenSide
from plugin.archive.report import OutputReport, Report, RoleReport, Status, StepTime

MATRIX = ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, -0.002155, 2.0), (0.0, 0.002155, 1.0, -3.0), (0.0, 0.0, 0.0, 1.0))
ADC = AdcStatistics(7, 1000.04, 990.06, 500.0, 2000.0, 250.04, 700.0, 1400.0)


def test_a_full_report() -> None:
    report = Report(
        study_instance_uid="1.2.3",
        status=Status.SEGMENTED,
        reason=None,
        model=ModelIdentity("phantom-demo", "1.0", "ab" * 32, IntendedUse.DEMONSTRATION),
        device="cpu",
        roles=(RoleReport(Role.T1CE, "1.2.3.4", " t1 KM ", ("because",)),),
        alignment=(
            RoleAlignment(
                *(Role.ADC, True, (0.12345, 0, 0), (1.0, 2.0, -3.00049), MATRIX, "gained"),
                AlignmentEvidence(0.85123, 0.93449, 0.12344),
            ),
        ),
        labels=tuple(LabelMeasurement(label, 12.34567, 2, ADC if label.number < 3 else None) for label in PAPER_LABELS),
        timings=(StepTime("choose", 0.00049), StepTime("total", 12.3456)),
        outputs=(OutputReport("seg.dcm", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.5.1", "1.2.3.5", "SEG", "ef" * 32),),
        images_sha256="cd" * 32,
        remarks=(Remark(RemarkKind.COVERAGE, "The top 40 mm of the head were not seen on ADC.", (Role.ADC,)),),
    )
    text = report.to_json()
    assert text.endswith("}\n")
    document = json.loads(text)
    assert list(document) == [
        *("study_instance_uid", "status", "reason", "model", "device", "roles", "alignment"),
        *("reference", "absent", "labels", "not_reported", "timings_s"),
        *("outputs", "images_sha256", "same_as", "remarks", "coverage"),
        *("analysis_started_at", "software_version", "job"),
    ]
    assert document["model"] == {
        "name": "phantom-demo",
        "version": "1.0",
        "sha256": "ab" * 32,
        "package_sha256": "",
        "intended_use": "demonstration",
    }
    assert document["roles"]["T1CE"] == {
        "series_instance_uid": "1.2.3.4",
        "series_description": " t1 KM ",
        "why": ["because"],
    }
    assert document["alignment"]["ADC"]["rotation_deg"] == [0.123, 0, 0]
    assert document["alignment"]["ADC"]["translation_mm"] == [1, 2, -3]
    assert document["alignment"]["ADC"]["matrix"] == [list(row) for row in MATRIX]
    evidence = {"overlap_before": 0.851, "overlap_after": 0.934, "gain": 0.1234}
    assert document["alignment"]["ADC"]["evidence"] == evidence
    assert set(document["labels"]) == {"enhancing_tumour", "adc_abnormality", "flair_hyperintensity"}
    assert document["labels"]["enhancing_tumour"]["volume_ml"] == 12.346
    assert document["labels"]["enhancing_tumour"]["adc_1e-6_mm2_per_s"]["mean"] == 1000.0
    assert document["labels"]["flair_hyperintensity"] == {"volume_ml": 12.346, "lesion_count": 2, "seen_share": 1}
    assert document["timings_s"] == {"choose": 0.0, "total": 12.346}
    assert document["outputs"] == [
        {
            "path": "seg.dcm",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
            "sop_instance_uid": "1.2.3.5.1",
            "series_instance_uid": "1.2.3.5",
            "series_description": "SEG",
            "sha256": "ef" * 32,
        }
    ]
    assert (document["images_sha256"], document["same_as"]) == ("cd" * 32, None)
    text = "The top 40 mm of the head were not seen on ADC."
    assert document["remarks"] == [{"kind": "coverage", "text": text, "roles": ["ADC"]}]


def test_a_label_that_was_not_found_where_not_all_was_seen_has_no_volume() -> None:
    model = ModelIdentity("m", "1", "0", IntendedUse.RESEARCH)
    nothing, some = (
        LabelMeasurement(PAPER_LABELS[0], 0.0, 0, None, 0.8),
        LabelMeasurement(PAPER_LABELS[1], 1.5, 1, None, 0.8),
    )
    coverage = (RoleCoverage(Role.ADC, 0.8, 0.8123, (UnseenSide(Side.TOP, 40.0),)), RoleCoverage(Role.FLAIR, 1.0, 1.0))
    report = Report("1.2.3", Status.SEGMENTED, None, model, "cpu", labels=(nothing, some), coverage=coverage)
    document = json.loads(report.to_json())
    assert document["labels"] == {
        "enhancing_tumour": {"volume_ml": None, "lesion_count": None, "seen_share": 0.8},
        "adc_abnormality": {"volume_ml": 1.5, "lesion_count": 1, "seen_share": 0.8},
    }
    assert document["coverage"] == {
        "ADC": {"share_of_head": 0.8, "share_of_t1ce_head": 0.812, "whole": False, "unseen_mm": {"top": 40}},
        "FLAIR": {"share_of_head": 1.0, "share_of_t1ce_head": 1.0, "whole": True, "unseen_mm": {}},
    }


def test_what_a_study_lacks_is_told_from_what_was_not_found() -> None:
    model = ModelIdentity("m", "1", "0", IntendedUse.RESEARCH)
    report = Report(
        *("1.2.3", Status.SEGMENTED, None, model, "cpu"),
        labels=(LabelMeasurement(ADC_ABNORMALITY, 0.0, 0, None),),
        reference=Role.FLAIR,
        absent=(Role.ADC, Role.T1CE),
        not_reported=(NotReported(ENHANCING_TUMOUR, Role.T1CE),),
        inferred=(Inferred(ADC_ABNORMALITY, Role.ADC, (Role.FLAIR,)),),
    )
    document = json.loads(report.to_json())
    assert document["reference"] == "FLAIR"
    assert document["absent"] == ["ADC", "T1CE"]
    assert document["not_reported"] == {"enhancing_tumour": {"absent": "T1CE"}}
    (found,) = document["labels"].values()
    assert (found["volume_ml"], found["inferred_from"]) == (0, ["FLAIR"])


def test_the_experiment_of_intermediate_adc_is_called_one() -> None:
    model = ModelIdentity("m", "1", "0", IntendedUse.RESEARCH)
    found = LabelMeasurement(PAPER_LABELS[0], 12.3, 2, ADC, intermediate_adc=IntermediateAdc(4.56789, 1248.04, 780.02))
    plain = replace(found, intermediate_adc=None)
    labels = [
        json.loads(Report("1.2.3", Status.SEGMENTED, None, model, "cpu", labels=(each,)).to_json())["labels"]
        for each in (found, plain)
    ]
    experiment = labels[0]["enhancing_tumour"].pop("experiment_intermediate_adc")
    assert experiment == {"volume_ml": 4.568, "below_1e-6_mm2_per_s": 1248.0, "white_matter_1e-6_mm2_per_s": 780.0}
    assert labels[0] == labels[1]


def test_a_study_that_is_not_eligible() -> None:
    model = ModelIdentity("m", "1", "0", IntendedUse.RESEARCH)
    document = json.loads(Report("1.2.3", Status.NOT_ELIGIBLE, "no ADC map", model, "cpu").to_json())
    assert (document["status"], document["reason"]) == ("not_eligible", "no ADC map")
    assert (document["roles"], document["labels"], document["outputs"]) == ({}, {}, [])
