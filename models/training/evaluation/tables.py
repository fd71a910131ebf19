"""An evaluation as CSV, a row for each label of each case, and as JSON. Knows no pictures."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from models.training.evaluation.groups import METRICS
from models.training.evaluation.score import NOT_FOUND_MM
from models.training.evaluation.summary import Evaluation, LabelSummary
from models.training.statistics.spread import Spread


def cases_csv(evaluation: Evaluation) -> str:
    """One row for each label of each case, in full precision."""
    groupings = evaluation.groupings
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["case", "patient", *(each.name for each in groupings), "label", "true_ml", "found_ml"]
        + [metric.name for metric in METRICS]
        + ["true_lesions", "detected_lesions", "found_lesions", "confirmed_lesions"]
    )
    for case in evaluation.measured.cases:
        for score in case.labels:
            lesions = score.lesions
            writer.writerow(
                [case.case_id, case.patient, *(each.of_case.get(case.case_id, "") for each in groupings)]
                + [score.label, score.true_ml, score.found_ml]
                + [metric.of(score) for metric in METRICS]
                + [lesions.true, lesions.detected, lesions.found, lesions.confirmed]
            )
    return stream.getvalue()


def evaluation_json(evaluation: Evaluation, command: str) -> str:
    """Summaries and comparisons for programs; what does not exist is null."""
    measured = evaluation.measured
    document = {
        "model": measured.package.name,
        "version": measured.package.version,
        "weights_sha256": measured.package.weights_sha256,
        "dataset_fingerprint": measured.dataset.fingerprint,
        "split": measured.split,
        "command": command,
        "seed": evaluation.seed,
        "cases": len(measured.cases),
        "patients": measured.patients,
        "overlap": asdict(measured.overlap),
        "left_out": [asdict(each) for each in measured.left_out],
        "not_found_mm": NOT_FOUND_MM,
        "labels": {summary.label: _label(summary) for summary in evaluation.labels},
        "comparisons": [
            {
                "metric": each.metric,
                "label": each.label,
                "grouping": each.grouping,
                "groups": {name: _spread(values) for name, values in each.groups},
                "mann_whitney_u": each.difference.u,
                "p": each.difference.p,
                "p_holm": each.p_holm,
                "cliffs_delta": each.difference.cliffs_delta,
            }
            for each in evaluation.comparisons
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _label(summary: LabelSummary) -> dict[str, Any]:
    lesions = summary.lesions
    return {
        "cases": summary.cases,
        "present": summary.present,
        "metrics": {name: _spread(values) for name, values in summary.metrics},
        "metrics_where_present": {name: _spread(values) for name, values in summary.metrics_where_present},
        "lesions": {
            **asdict(lesions),
            "sensitivity": lesions.sensitivity,
            "precision": lesions.precision,
            "f1": lesions.f1,
        },
        "false_ml": summary.false_ml and _spread(summary.false_ml),
        "volume": summary.volume and asdict(summary.volume),
    }


def _spread(values: Spread) -> dict[str, Any]:
    return asdict(values)
