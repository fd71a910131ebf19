"""The numbers of an evaluation as text: cases.csv, evaluation.json and, for a model card, metrics.json."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, HeadCase
from models.training.evaluation.figures import Figure
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore
from models.training.evaluation.subgroups import METRICS
from models.training.evaluation.summary import Evaluation, GroupSummary, LabelSummary


def cases_csv(evaluation: Evaluation) -> str:
    """Return a CSV with a row for each label of each case, in full precision."""
    groupings = evaluation.groupings
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["case", "patient", *(each.name for each in groupings), "label", "true_ml", "found_ml"]
        + [metric.name for metric in METRICS]
        + ["true_lesions", "detected_lesions", "found_lesions", "confirmed_lesions", "absent_channels"]
    )
    for measured in (*evaluation.cases, *evaluation.reduced):
        case = measured.case
        for score in measured.labels:
            lesions = score.lesions
            writer.writerow(
                [case.case_id, case.patient or "", *(each.groups.get(case.case_id, "") for each in groupings)]
                + [score.label, score.true_ml, score.found_ml]
                + [metric.of(score) for metric in METRICS]
                + [lesions.true, lesions.detected, lesions.found, lesions.confirmed, " ".join(measured.absent)]
            )
    return stream.getvalue()


def evaluation_json(evaluation: Evaluation, command: str) -> str:
    """Return summaries and comparisons as JSON; what does not exist is null."""
    dataset = evaluation.dataset
    document = {
        **_model(evaluation),
        "dataset_fingerprint": dataset and dataset.fingerprint,
        "split": dataset and dataset.split,
        "command": command,
        "seed": evaluation.seed,
        "cases": len(evaluation.cases),
        "patients": evaluation.patients,
        "overlap": dataset and asdict(dataset.overlap),
        "left_out": [{"case_id": each.case.case_id, "why": each.reason} for each in evaluation.unmeasured],
        "not_found_mm": NOT_FOUND_MM,
        "labels": {summary.label: _label(summary) for summary in evaluation.labels},
        "subsets": _subsets(evaluation),
        "comparisons": [
            {
                "metric": each.metric,
                "label": each.label,
                "grouping": each.grouping,
                "groups": {name: asdict(values) for name, values in each.groups},
                "mann_whitney_u": each.difference.u,
                "p": each.difference.p,
                "p_holm": each.p_holm,
                "cliffs_delta": each.difference.cliffs_delta,
            }
            for each in evaluation.comparisons
        ],
    }
    return _text(document)


def metrics_json(evaluation: Evaluation, figures: Sequence[Figure], command: str) -> str:
    """Return every number of the model card and every case as JSON; a number that does not exist is null."""
    document = {
        **_model(evaluation),
        "command": command,
        "head_spacing_mm": evaluation.spacing_mm,
        "groups": {group.name: _group(group) for group in evaluation.groups},
        "lesion_free": {free.name: _lesion_free(free) for free in evaluation.lesion_free},
        "subsets": _subsets(evaluation),
        "figures": [
            {"file": each.file_name, "group": each.score.case.group, "place": each.rank, "case": each.score.case.name}
            for each in figures
        ],
        "cases": [_case(score) for score in evaluation.cases],
        "left_out": [{**_identity(each.case), "why": each.reason} for each in evaluation.unmeasured],
    }
    return _text(document)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _model(evaluation: Evaluation) -> dict[str, Any]:
    package = evaluation.package
    return {"model": package.name, "version": package.version, "weights_sha256": package.weights_sha256}


def _label(summary: LabelSummary) -> dict[str, Any]:
    lesions = summary.lesions
    return {
        "cases": len(summary.scores),
        "present": len(summary.present),
        "metrics": {name: asdict(values) for name, values in summary.metrics.items()},
        "metrics_where_present": {name: asdict(values) for name, values in summary.metrics_where_present.items()},
        "lesions": asdict(lesions) | {name: getattr(lesions, name) for name in ("sensitivity", "precision", "f1")},
        "false_ml": summary.false_ml and asdict(summary.false_ml),
        "volume": summary.volume and asdict(summary.volume),
    }


def _subsets(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "channels": subset.name,
            "absent": subset.cases[0].absent,
            "cases": len(subset.cases),
            "labels": {summary.label: _label(summary) for summary in subset.labels},
        }
        for subset in evaluation.subsets
    ]


def _group(group: GroupSummary) -> dict[str, Any]:
    return {
        "cases": len(group.cases),
        "mean_dice": group.mean_dice,
        "labels": _labels(group.labels),
        "variants": {each.name: {"cases": len(each.cases), "labels": _labels(each.labels)} for each in group.variants},
    }


def _labels(labels: Sequence[LabelSummary]) -> dict[str, Any]:
    return {
        label.label: {
            "cases": len(label.present),
            "median_dice": label.median_dice,
            "mean_dice": label.mean_dice,
            "lowest_dice": label.lowest_dice,
            "median_hd95_mm": label.median_hd95_mm,
            "lesions": asdict(label.lesions),
        }
        for label in labels
    }


def _lesion_free(free: GroupSummary) -> dict[str, Any]:
    names = ("median_ml", "percentile_95_ml", "highest_ml")
    return {
        "heads": len(free.cases),
        "labels": {
            label.label: {**dict(zip(names, label.found_ml, strict=True)), "lesions": label.lesions.found}
            for label in free.labels
        },
    }


def _case(score: CaseScore) -> dict[str, Any]:
    return {
        **_identity(score.case),
        "mean_dice": score.mean_dice_where_present,
        "labels": {each.label: _score(each) for each in score.labels},
    }


def _identity(case: EvaluationCase) -> dict[str, Any]:
    if isinstance(case, HeadCase):
        return {"group": case.group, "seed": case.seed, "variant": case.variant.value}
    return {"group": case.group, "study": case.case_id}


def _score(score: LabelScore) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(score).items() if name != "label"}
    return fields if score.is_present else {**fields, "dice": None, "hd95_mm": None}
