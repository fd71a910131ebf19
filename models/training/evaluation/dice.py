"""An evaluation on heads as JSON, for programs: every number of the model card, and case by case. Writes no file."""

import json
from dataclasses import asdict
from typing import Any

from models.training.evaluation.families import Evaluation, GroupSummary, LabelSummary, LesionFree, Scored
from models.training.evaluation.run import Figure
from models.training.evaluation.score import LabelScore
from models.training.evaluation.score_tables import name_of
from models.training.evaluation.synthetic_cases import Case, Head

METRICS_FILE = "metrics.json"


def metrics_json(evaluation: Evaluation, figures: tuple[Figure, ...], command: str) -> str:
    """The text of metrics.json; a number that does not exist is null."""
    package = evaluation.package
    document = {
        "model": package.name,
        "version": package.version,
        "weights_sha256": package.weights_sha256,
        "command": command,
        "head_spacing_mm": evaluation.spacing_mm,
        "groups": {group.group: _group(group) for group in evaluation.groups},
        "lesion_free": {free.group: _free(free) for free in evaluation.lesion_free},
        "figures": [
            {"file": each.file_name, "group": each.group, "place": each.place.value, "case": name_of(each.scored.case)}
            for each in figures
        ],
        "cases": [_case(scored) for scored in evaluation.cases],
        "left_out": [{**_identity(case), "why": why} for case, why in evaluation.left_out],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _group(group: GroupSummary) -> dict[str, Any]:
    return {
        "cases": group.cases,
        "mean_dice": group.mean_dice,
        "labels": _labels(group.labels),
        "variants": {each.variant: {"cases": each.cases, "labels": _labels(each.labels)} for each in group.variants},
    }


def _labels(labels: tuple[LabelSummary, ...]) -> dict[str, Any]:
    return {label.label: _without_name(asdict(label)) for label in labels}


def _free(free: LesionFree) -> dict[str, Any]:
    return {
        "heads": free.heads,
        "labels": {
            each.label: {
                "median_ml": each.median_ml,
                "percentile_95_ml": each.high_ml,
                "highest_ml": each.highest_ml,
                "lesions": each.lesions,
            }
            for each in free.labels
        },
    }


def _case(scored: Scored) -> dict[str, Any]:
    return {
        **_identity(scored.case),
        "mean_dice": scored.mean_dice,
        "labels": {score.label: _score(score) for score in scored.labels},
    }


def _identity(case: Case) -> dict[str, Any]:
    if isinstance(case, Head):
        return {"group": case.group, "seed": case.seed, "variant": case.variant.value}
    return {"group": case.group, "study": case.name}


def _score(score: LabelScore) -> dict[str, Any]:
    there = score.is_there
    return {
        **_without_name(asdict(score)),
        "dice": score.dice if there else None,
        "hd95_mm": score.hd95_mm if there else None,
    }


def _without_name(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "label"}
