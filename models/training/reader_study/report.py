"""The scores of a reader study as CSV, JSON and one HTML page with tables like those of Wan et al. 2024."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.training.reader_study.analysis import Agreement, ReaderScores, StudyScores, SubgroupTable
from models.training.reader_study.answer_key import Key, Source
from models.training.reader_study.answers import Reading
from models.training.reader_study.likert_scale import ACCEPTABLE, SCORES
from models.training.report.html import heading, page, paragraph, table
from models.training.statistics.agreement import IntraclassCorrelation
from pipeline.atomic_write import write_file

SCORES_FILE, NUMBERS_FILE, PAGE_FILE = "scores.csv", "scores.json", "scores.html"
_NAMES = {Source.MODEL: "Model", Source.MANUAL: "Manual", None: "Both together"}
_NOTES = (
    "Scores are those of first showings; second ones serve the agreement of a reader with himself. ICC is the two-way "
    "mixed model for consistency of single ratings, ICC(3,1), with its 95 % interval; kappa has quadratic weights. "
    "Chi-square is Pearson's without correction, rows and columns without any count left out; below 5 expected cases "
    "in a cell its p is rough. The chi-square of the cross table asks whether the scores of model and manual go "
    "together; whether they differ is asked by Wilcoxon's signed-rank test, case by case."
)


def write_scores(scores: StudyScores, readings: Sequence[Reading], out: Path) -> None:
    """Write scores.csv, scores.json and scores.html into a folder. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / SCORES_FILE, scores_csv(scores.key, readings))
    write_file(out / NUMBERS_FILE, json.dumps(_numbers(scores), indent=1, allow_nan=False) + "\n")
    write_file(out / PAGE_FILE, scores_page(scores))


def scores_csv(key: Key, readings: Sequence[Reading]) -> str:
    """One row for each judgement, no longer blinded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["reader", "item", "case", "source", "repeat_of", "score"])
    for reading in readings:
        for item in key.items:
            if item.item_id in reading.scores:
                told = (item.case_id, item.source.value, item.repeat_of or "", reading.scores[item.item_id])
                writer.writerow([reading.reader, item.item_id, *told])
    return stream.getvalue()


def _numbers(scores: StudyScores) -> dict[str, object]:
    key = scores.key
    return {
        "study": key.study,
        "model": key.model,
        "weights_sha256": key.weights_sha256,
        "dataset_fingerprint": key.dataset_fingerprint,
        "readers": [asdict(each) for each in scores.readers],
        "agreement": [asdict(each) for each in scores.agreement],
    }


def scores_page(scores: StudyScores) -> str:
    """The page."""
    key = scores.key
    cases = {item.case_id for item in key.items}
    parts = [paragraph(f"{len(cases)} cases, {len(key.items)} items; model {key.model}, study {key.study}.")]
    if scores.agreement:
        parts += [heading("Agreement of readers"), _agreement_table(scores.agreement)]
    for reader in scores.readers:
        parts += [heading(f"Reader {reader.reader}"), *_reader_parts(reader)]
    return page("Reader study", [*parts, heading("How this was computed"), paragraph(_NOTES, "note")])


def _reader_parts(reader: ReaderScores) -> list[str]:
    rows = [
        (
            _NAMES[each.source],
            str(each.scores.count),
            f"{each.scores.mean:.3f} ± {_number(each.scores.standard_deviation)}",
            f"{each.scores.median:g} ({each.scores.quartiles[0]:g} to {each.scores.quartiles[1]:g})",
            f"{each.acceptable} ({100 * each.acceptable / each.scores.count:.1f} %)",
        )
        for each in reader.sources
    ]
    head = ("Segmentation", "Cases", "Mean ± SD", "Median (quartiles)", f"Score {ACCEPTABLE} or more")
    difference = f"Model against manual, Wilcoxon's signed-rank test: p {_p(reader.paired_p)}."
    parts = [table(head, rows), paragraph(difference), _cross_table(reader)]
    parts += [_subgroup_table(each) for each in reader.subgroups if each.groups]
    if reader.repeats:
        kappa, icc = _number(reader.repeat_kappa), _icc(reader.repeat_icc)
        words = f"{reader.repeats} items were judged twice: weighted kappa {kappa}, ICC(3,1) {icc}."
        parts.append(paragraph(f"Agreement with himself or herself. {words}"))
    return parts


def _cross_table(reader: ReaderScores) -> str:
    columns = [sum(row[number] for row in reader.cross) for number in range(len(SCORES))]
    shown = [number for number, total in enumerate(columns) if total]
    rows = [
        (f"Model {score}", *(_share(row[number], columns[number]) for number in shown), str(sum(row)))
        for score, row in zip(SCORES, reader.cross, strict=True)
        if sum(row)
    ]
    rows.append(("Total", *(str(columns[number]) for number in shown), str(sum(columns))))
    test = reader.cross_chi_square
    words = "" if test is None else f"; chi-square p {_p(test.p)}, smallest expected {test.smallest_expected:.1f}"
    head = ("", *(f"Manual {SCORES[number]}" for number in shown), "Total")
    return table(head, rows, f"Scores of model and manual, number (% of column){words}")


def _subgroup_table(found: SubgroupTable) -> str:
    totals = [sum(row[number] for row in found.counts) for number in range(len(found.groups))]
    rows = [
        (str(score), *(_share(count, total) for count, total in zip(row, totals, strict=True)))
        for score, row in zip(SCORES, found.counts, strict=True)
        if sum(row)
    ]
    rows.append(("Total", *map(str, totals)))
    words = f"{_NAMES[found.source]} by {found.grouping}"
    if found.chi_square is not None:
        words += f": chi-square p {_p(found.chi_square.p)} (Holm {_p(found.p_holm)}), smallest expected "
        words += f"{found.chi_square.smallest_expected:.1f}"
    if found.difference is not None:
        words += f"; Mann-Whitney p {_p(found.difference.p)}, Cliff's delta {found.difference.cliffs_delta:+.2f}"
    return table(("Score", *found.groups), rows, words)


def _agreement_table(agreement: Sequence[Agreement]) -> str:
    rows = [
        (
            _NAMES[each.source],
            str(each.items),
            _icc(each.icc),
            ", ".join(f"{one}-{other}: {_number(kappa)}" for one, other, kappa in each.kappas),
        )
        for each in agreement
    ]
    return table(("Segmentation", "Items judged by all", "ICC(3,1)", "Weighted kappa"), rows)


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.2f})" if total else str(count)


def _icc(found: IntraclassCorrelation | None) -> str:
    if found is None or found.consistency is None or found.consistency_interval is None:
        return "-"
    low, high = found.consistency_interval
    return f"{found.consistency:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
