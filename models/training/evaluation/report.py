"""An evaluation as one HTML page for a person, and all its files into a folder."""

from collections.abc import Sequence
from pathlib import Path

from models.training.evaluation.figures import bland_altman, box_plot
from models.training.evaluation.groups import METRICS, Metric
from models.training.evaluation.overlays import Overlay
from models.training.evaluation.score import NOT_FOUND_MM
from models.training.evaluation.summary import Evaluation, LabelSummary
from models.training.evaluation.tables import cases_csv, evaluation_json
from models.training.report.html import heading, page, paragraph, picture, table
from models.training.report.slice_pictures import title_of
from models.training.statistics.spread import Spread
from pipeline.atomic_write import write_file

CASES_FILE, NUMBERS_FILE, PAGE_FILE = "cases.csv", "evaluation.json", "report.html"

_CONVENTIONS = (
    "Masks are compared on the grid of the data set, after the node's own segmenting and restoring. No case is "
    "dropped: where truth and found are both empty Dice is 1, HD95 0 mm and the lesion metrics 1; where one is empty "
    f"Dice is 0 and HD95 {NOT_FOUND_MM:.2f} mm. Percent of volume is of the mean of both, from -200 to 200. Lesions "
    "are connected voxels (26 neighbours) of 50 mm3 or more; a true one is detected and a found one confirmed where a "
    "tenth of it lies in the other mask. Intervals are 95 % percentile bootstraps of the median over cases; tests are "
    "two-sided Mann-Whitney U with Cliff's delta, corrected by Holm within each metric. Intervals and tests take cases "
    "as independent, also those of one patient."
)


def write_evaluation(evaluation: Evaluation, worst: Sequence[Overlay], command: str, out: Path) -> None:
    """Write cases.csv, evaluation.json and report.html into a folder, each whole or not at all. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (CASES_FILE, cases_csv(evaluation)),
        (NUMBERS_FILE, evaluation_json(evaluation, command)),
        (PAGE_FILE, report_page(evaluation, worst, command)),
    ):
        write_file(out / name, text)


def report_page(evaluation: Evaluation, worst: Sequence[Overlay], command: str) -> str:
    """The page; everything in it comes from the evaluation."""
    measured = evaluation.measured
    package, cases = measured.package, measured.cases
    labels = [summary.label for summary in evaluation.labels]
    parts = [
        paragraph(
            f"{len(cases)} cases of {measured.patients} patients from the split {measured.split or 'all'} of data set "
            f"{measured.dataset.fingerprint[:12]}; weights sha256 {package.weights_sha256[:12]}; intended use: "
            f"{package.intended_use}. Made by: {command}"
        )
    ]
    if measured.split != "test":
        parts.append(
            paragraph("These are not test cases alone: a model does better on cases that it learned from.", "warning")
        )
    parts += [paragraph(sentence, "warning") for sentence in measured.overlap.warnings()]
    if measured.left_out:
        parts.append(paragraph("Left out:", "warning"))
        parts.append(table(("Case", "Why"), [(each.case_id, each.why) for each in measured.left_out]))
    if not cases:
        return page(f"Evaluation of {package.name} {package.version}", [*parts, paragraph("No case was measured.")])
    parts += [heading("Labels"), _label_table(evaluation.labels), _lesion_table(evaluation.labels)]
    parts += [_present_table(evaluation.labels)]
    parts += [
        picture(box_plot(cases, labels, metric, None), f"Box plot of {metric.title}", f"{metric.title}, all cases.")
        for metric in METRICS[:2]
    ]
    parts += [heading("Volumes"), _volume_table(evaluation.labels)]
    caption = "Bland-Altman: each point is a case; bias (line) and limits of agreement (dashed), in ml."
    parts.append(picture(bland_altman(cases, evaluation.labels), "Bland-Altman plots", caption))
    parts += _subgroups(evaluation, labels)
    parts += _overlays(worst)
    parts += [heading("How this was measured"), paragraph(_CONVENTIONS, "note")]
    return page(f"Evaluation of {package.name} {package.version}", parts)


def _label_table(summaries: Sequence[LabelSummary]) -> str:
    head = ("Label", "Cases", "of these with the label", *(_named(metric) for metric in METRICS[:4]))
    rows = [
        (
            title_of(summary.label),
            str(summary.cases),
            str(summary.present),
            *(_written(dict(summary.metrics)[metric.name]) for metric in METRICS[:4]),
        )
        for summary in summaries
    ]
    return table(head, rows, "All cases: median [95 % interval] (quartiles)")


def _present_table(summaries: Sequence[LabelSummary]) -> str:
    rows = [
        (
            title_of(summary.label),
            str(summary.present),
            *(_written(dict(summary.metrics_where_present).get(metric.name)) for metric in METRICS[:2]),
            _written(summary.false_ml) if summary.false_ml else "-",
        )
        for summary in summaries
    ]
    head = ("Label", "Cases with it", "Dice", "HD95 (mm)", "ml found where there is none")
    caption = "Cases whose truth holds the label, and what was found in the others: median [95 % interval] (quartiles)"
    return table(head, rows, caption)


def _lesion_table(summaries: Sequence[LabelSummary]) -> str:
    rows = []
    for summary in summaries:
        pooled, by_case = summary.lesions, dict(summary.metrics)
        rows.append(
            (
                title_of(summary.label),
                f"{pooled.detected} of {pooled.true}",
                f"{pooled.confirmed} of {pooled.found}",
                f"{pooled.sensitivity:.3f} / {pooled.precision:.3f} / {pooled.f1:.3f}",
                _written(by_case["lesion_f1"]),
            )
        )
    head = ("Label", "True lesions detected", "Found lesions confirmed", "Sensitivity / precision / F1", "F1 by case")
    return table(head, rows, "Lesions of all cases together; in the last column each case counts once")


def _volume_table(summaries: Sequence[LabelSummary]) -> str:
    rows = [
        (
            title_of(summary.label),
            f"{summary.volume.bias_ml:+.2f}",
            f"{summary.volume.limits_ml[0]:+.2f} to {summary.volume.limits_ml[1]:+.2f}",
        )
        for summary in summaries
        if summary.volume is not None
    ]
    return table(("Label", "Bias (ml)", "95 % limits of agreement (ml)"), rows, "Found - true")


def _subgroups(evaluation: Evaluation, labels: Sequence[str]) -> list[str]:
    parts = [heading("Subgroups")]
    if not evaluation.comparisons:
        parts.append(paragraph("There are no two groups to compare.", "note"))
        return parts
    units = {metric.name: _named(metric) for metric in METRICS}
    rows = [
        (
            f"{each.grouping}: {each.groups[0][0]}, {each.groups[1][0]}",
            title_of(each.label),
            units[each.metric],
            *(f"{_written(values)}, n = {values.count}" for _, values in each.groups),
            _p(each.difference.p),
            _p(each.p_holm),
            f"{each.difference.cliffs_delta:+.2f}",
        )
        for each in evaluation.comparisons
    ]
    head = ("Groups", "Label", "Metric", "First", "Second", "p", "p (Holm)", "Cliff's delta")
    parts.append(table(head, rows, "Mann-Whitney U; delta above 0: the first group's values are higher"))
    for grouping in evaluation.groupings:
        if len(set(grouping.of_case.values())) > 1:
            drawn = box_plot(evaluation.measured.cases, labels, METRICS[0], grouping)
            parts.append(picture(drawn, f"Dice by {grouping.name}", f"Dice by {grouping.name} ({grouping.source})."))
    return parts


def _overlays(worst: Sequence[Overlay]) -> list[str]:
    if not worst:
        return []
    parts = [heading("Worst cases"), paragraph("By mean Dice of the labels. Green: truth. Magenta: found.", "note")]
    for each in worst:
        panels = ", ".join(
            f"{title_of(score.label)} (slice {index + 1}) Dice {score.dice:.3f}"
            for score, index in zip(each.score.labels, each.slices, strict=True)
        )
        parts.append(picture(each.png, f"Case {each.score.case_id}", f"{each.score.case_id}: {panels}"))
    return parts


def _named(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _written(values: Spread | None) -> str:
    if values is None:
        return "-"
    low, high = values.quartiles
    interval = "" if values.median_interval is None else " [{:.3g}, {:.3g}]".format(*values.median_interval)
    return f"{values.median:.3g}{interval} ({low:.3g} to {high:.3g})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
