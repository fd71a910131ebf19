"""Write the scores of a reader study as CSV, JSON and one HTML page with tables like those of Wan et al. 2024."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.training.reader_study.analysis import Agreement, ReaderScores, StudyScores, SubgroupTable
from models.training.reader_study.answer_key import Key, MaskSource
from models.training.reader_study.answers import Reading
from models.training.reader_study.likert_scale import ACCEPTABLE, SCORES
from models.training.report.html import Table, format_number, format_p, render
from models.training.statistics.agreement import IntraclassCorrelation
from pipeline.atomic_write import write_file

SCORES_FILE, NUMBERS_FILE, PAGE_FILE = "scores.csv", "scores.json", "scores.html"
_NAMES = {MaskSource.MODEL: "Model", MaskSource.MANUAL: "Manual", None: "Both together"}


def write_scores(scores: StudyScores, readings: Sequence[Reading], out: Path) -> None:
    """Write scores.csv, scores.json and scores.html into a folder. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / SCORES_FILE, scores_csv(scores.key, readings))
    write_file(out / NUMBERS_FILE, json.dumps(_numbers(scores), indent=1, allow_nan=False) + "\n")
    write_file(out / PAGE_FILE, scores_page(scores))


def scores_csv(key: Key, readings: Sequence[Reading]) -> str:
    """Return a CSV with a row for each judgement, unblinded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["reader", "item", "case", "source", "repeat_of", "score"])
    for reading in readings:
        for item in key.items:
            if item.item_id in reading.scores:
                shown = (item.case_id, item.source.value, item.repeat_of or "")
                writer.writerow([reading.reader, item.item_id, *shown, reading.scores[item.item_id]])
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
    """Return the HTML page of the scores."""
    key = scores.key
    cases = {item.case_id for item in key.items}
    return render(
        "reader_study/scores.html.jinja",
        title="Reader study",
        introduction=f"{len(cases)} cases, {len(key.items)} items; model {key.model}, study {key.study}.",
        agreement=_agreement_table(scores.agreement),
        readers=[_reader_section(reader) for reader in scores.readers],
    )


def _reader_section(reader: ReaderScores) -> dict[str, object]:
    """Return the values that the template needs of one reader."""
    rows = [
        (
            _NAMES[each.source],
            str(each.scores.count),
            f"{each.scores.mean:.3f} ± {format_number(each.scores.standard_deviation)}",
            f"{each.scores.median:g} ({each.scores.quartiles[0]:g} to {each.scores.quartiles[1]:g})",
            f"{each.acceptable} ({100 * each.acceptable / each.scores.count:.1f} %)",
        )
        for each in reader.sources
    ]
    head = ("Segmentation", "Cases", "Mean ± SD", "Median (quartiles)", f"Score {ACCEPTABLE} or more")
    return {
        "name": reader.reader,
        "sources": Table(head, rows),
        "paired_p": format_p(reader.paired_p),
        "tables": [_cross_table(reader), *(_subgroup_table(each) for each in reader.subgroups if each.groups)],
        "repeats": reader.repeats,
        "kappa": format_number(reader.repeat_kappa),
        "icc": _icc(reader.repeat_icc),
    }


def _cross_table(reader: ReaderScores) -> Table:
    columns = [sum(row[number] for row in reader.cross) for number in range(len(SCORES))]
    shown = [number for number, total in enumerate(columns) if total]
    rows = [
        (f"Model {score}", *(_share(row[number], columns[number]) for number in shown), str(sum(row)))
        for score, row in zip(SCORES, reader.cross, strict=True)
        if sum(row)
    ]
    rows.append(("Total", *(str(columns[number]) for number in shown), str(sum(columns))))
    test = reader.cross_chi_square
    tested = (
        "" if test is None else f"; chi-square p {format_p(test.p)}, smallest expected {test.smallest_expected:.1f}"
    )
    head = ("", *(f"Manual {SCORES[number]}" for number in shown), "Total")
    return Table(head, rows, f"Scores of model and manual, number (% of column){tested}")


def _subgroup_table(found: SubgroupTable) -> Table:
    totals = [sum(row[number] for row in found.counts) for number in range(len(found.groups))]
    rows = [
        (str(score), *(_share(count, total) for count, total in zip(row, totals, strict=True)))
        for score, row in zip(SCORES, found.counts, strict=True)
        if sum(row)
    ]
    rows.append(("Total", *map(str, totals)))
    caption = f"{_NAMES[found.source]} by {found.grouping}"
    if found.chi_square is not None:
        caption += f": chi-square p {format_p(found.chi_square.p)} (Holm {format_p(found.p_holm)}), smallest expected "
        caption += f"{found.chi_square.smallest_expected:.1f}"
    if found.difference is not None:
        caption += (
            f"; Mann-Whitney p {format_p(found.difference.p)}, Cliff's delta {found.difference.cliffs_delta:+.2f}"
        )
    return Table(("Score", *found.groups), rows, caption)


def _agreement_table(agreement: Sequence[Agreement]) -> Table:
    rows = [
        (
            _NAMES[each.source],
            str(each.items),
            _icc(each.icc),
            ", ".join(f"{one}-{other}: {format_number(kappa)}" for one, other, kappa in each.kappas),
        )
        for each in agreement
    ]
    return Table(("Segmentation", "Items judged by all", "ICC(3,1)", "Weighted kappa"), rows)


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.2f})" if total else str(count)


def _icc(found: IntraclassCorrelation | None) -> str:
    if found is None or found.consistency is None or found.consistency_interval is None:
        return "-"
    low, high = found.consistency_interval
    return f"{found.consistency:.3f} [{low:.3f}, {high:.3f}]"
