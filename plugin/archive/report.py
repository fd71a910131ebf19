"""The report of one study and its JSON form, `report.json`, which scripts of sites read."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from models.labels import Role
from pipeline.alignment import AlignmentEvidence, RoleAlignment
from pipeline.remarks import Remark
from pipeline.result import AdcStatistics, Inferred, LabelMeasurement, ModelIdentity, NotReported
from pipeline.role_coverage import RoleCoverage
from plugin.archive.report_reader import ReportedJob


class Status(StrEnum):
    """How a study ended."""

    SEGMENTED = "segmented"
    NOT_ELIGIBLE = "not_eligible"
    FAILED = "failed"
    UNCHANGED = "unchanged"
    """An earlier result was computed from the same images and stays the current one."""


@dataclass(frozen=True, slots=True)
class RoleReport:
    """The series that was chosen for a role."""

    role: Role
    series_instance_uid: str
    series_description: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputReport:
    """A DICOM file that was written."""

    path: str
    """Relative to the folder of the report."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    series_description: str
    sha256: str = ""
    """Digest of the file, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long one step took."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one study."""

    study_instance_uid: str
    status: Status
    reason: str | None
    """A sentence for a person where the status is not `segmented`."""
    model: ModelIdentity
    device: str
    roles: tuple[RoleReport, ...] = ()
    alignment: tuple[RoleAlignment, ...] = ()
    labels: tuple[LabelMeasurement, ...] = ()
    timings: tuple[StepTime, ...] = ()
    outputs: tuple[OutputReport, ...] = ()
    images_sha256: str | None = None
    """Hash of the images that the result was computed from, see `dicom_seg.uids.images_sha256`; None without one."""
    same_as: str | None = None
    """Key of the job with the current result, where this one is `unchanged`."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know beside its numbers."""
    coverage: tuple[RoleCoverage, ...] = ()
    reference: Role | None = None
    """The role of the series that the others were aligned with, and whose slices have all labels; None without one."""
    absent: tuple[Role, ...] = ()
    """Input channels of the model that the study lacks."""
    not_reported: tuple[NotReported, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    analysis_started_at: datetime | None = None
    """When the analysis began, with time zone; the objects state it, too."""
    software_version: str = ""
    job: ReportedJob | None = None
    """None where no job made it."""

    def to_json(self) -> str:
        """Return the text of `report.json`."""
        document = {
            "study_instance_uid": self.study_instance_uid,
            "status": self.status.value,
            "reason": self.reason,
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "sha256": self.model.sha256,
                "package_sha256": self.model.package_sha256,
                "intended_use": self.model.intended_use.value,
            },
            "device": self.device,
            "roles": {entry.role.value: _role(entry) for entry in self.roles},
            "alignment": {entry.role.value: _alignment(entry) for entry in self.alignment},
            "reference": self.reference.value if self.reference else None,
            "absent": [role.value for role in self.absent],
            "labels": {entry.label.name: _label(entry, self.inferred) for entry in self.labels},
            "not_reported": {entry.label.name: {"absent": entry.absent.value} for entry in self.not_reported},
            "timings_s": {entry.step: round(entry.seconds, 3) for entry in self.timings},
            "outputs": [_output(each) for each in self.outputs],
            "images_sha256": self.images_sha256,
            "same_as": self.same_as,
            "remarks": [_remark(each) for each in self.remarks],
            "coverage": {entry.role.value: _coverage(entry) for entry in self.coverage},
            "analysis_started_at": self.analysis_started_at.isoformat() if self.analysis_started_at else None,
            "software_version": self.software_version,
            "job": _job(self.job) if self.job else None,
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _role(entry: RoleReport) -> dict[str, Any]:
    return {
        "series_instance_uid": entry.series_instance_uid,
        "series_description": entry.series_description,
        "why": list(entry.why),
    }


def _output(entry: OutputReport) -> dict[str, str]:
    return {
        "path": entry.path,
        "sop_class_uid": entry.sop_class_uid,
        "sop_instance_uid": entry.sop_instance_uid,
        "series_instance_uid": entry.series_instance_uid,
        "series_description": entry.series_description,
        "sha256": entry.sha256,
    }


def _job(job: ReportedJob) -> dict[str, Any]:
    return asdict(job) | {"queued_at": job.queued_at.isoformat(), "started_at": job.started_at.isoformat()}


def _remark(entry: Remark) -> dict[str, Any]:
    return {"kind": entry.kind.value, "text": entry.text, "roles": [role.value for role in entry.roles]}


def _coverage(entry: RoleCoverage) -> dict[str, Any]:
    return {
        "share_of_head": round(entry.share_of_head, 3),
        "share_of_t1ce_head": round(entry.share_of_t1ce_head, 3),
        "whole": entry.whole,
        "unseen_mm": {each.side.value: round(each.thickness_mm) for each in entry.unseen_sides},
    }


def _alignment(entry: RoleAlignment) -> dict[str, Any]:
    return {
        "kept": entry.kept,
        "rotation_deg": [round(value, 3) for value in entry.rotation_deg],
        "translation_mm": [round(value, 3) for value in entry.translation_mm],
        "matrix": [list(row) for row in entry.matrix],
        "why": entry.why,
        "evidence": _evidence(entry.evidence),
    }


def _evidence(evidence: AlignmentEvidence | None) -> dict[str, float] | None:
    if evidence is None:
        return None
    return {
        "overlap_before": round(evidence.overlap_before, 3),
        "overlap_after": round(evidence.overlap_after, 3),
        "gain": round(evidence.gain, 4),
    }


def _label(entry: LabelMeasurement, inferred: Iterable[Inferred]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        # A script must not take "nothing found in the part that was seen" for an absent tumour.
        "volume_ml": round(entry.volume_ml, 3) if entry.assessed else None,
        "lesion_count": entry.lesion_count if entry.assessed else None,
        "seen_share": round(entry.seen_share, 3),
    }
    if entry.adc is not None:
        fields["adc_1e-6_mm2_per_s"] = _adc(entry.adc)
    for each in inferred:
        if each.label == entry.label:
            fields["inferred_from"] = [role.value for role in each.inferred_from]
    if entry.intermediate_adc is not None:
        fields["experiment_intermediate_adc"] = {
            "volume_ml": round(entry.intermediate_adc.volume_ml, 3),
            "below_1e-6_mm2_per_s": round(entry.intermediate_adc.below, 1),
            "white_matter_1e-6_mm2_per_s": round(entry.intermediate_adc.white_matter, 1),
        }
    return fields


def _adc(adc: AdcStatistics) -> dict[str, float]:
    return {
        "voxel_count": adc.voxel_count,
        "mean": round(adc.mean, 1),
        "median": round(adc.median, 1),
        "minimum": round(adc.minimum, 1),
        "maximum": round(adc.maximum, 1),
        "standard_deviation": round(adc.standard_deviation, 1),
        "percentile_10": round(adc.percentile_10, 1),
        "percentile_90": round(adc.percentile_90, 1),
    }
