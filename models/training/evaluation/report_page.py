"""Write an evaluation into a folder: one HTML page for a person, cases.csv and evaluation.json."""

from collections.abc import Sequence
from pathlib import Path

from models.training.evaluation.figures import Figure
from models.training.evaluation.plots import bland_altman, box_plot
from models.training.evaluation.result_files import cases_csv, evaluation_json
from models.training.evaluation.score import NOT_FOUND_MM
from models.training.evaluation.subgroups import METRICS
from models.training.evaluation.subset_table import subset_table
from models.training.evaluation.summary import Evaluation, LabelSummary
from models.training.report.html import Picture, Table, format_p, render
from models.training.report.slice_pictures import title_of
from models.training.statistics.spread import Spread
from pipeline.atomic_write import write_file

CASES_FILE, NUMBERS_FILE, PAGE_FILE = "cases.csv", "evaluation.json", "report.html"


def write_evaluation(evaluation: Evaluation, figures: Sequence[Figure], command: str, out: Path) -> None:
    """Write cases.csv, evaluation.json and report.html into a folder, each whole or not at all. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (CASES_FILE, cases_csv(evaluation)),
        (NUMBERS_FILE, evaluation_json(evaluation, command)),
        (PAGE_FILE, report_page(evaluation, figures, command)),
    ):
        write_file(out / name, text)


def report_page(evaluation: Evaluation, figures: Sequence[Figure], command: str) -> str:
    """Return the page, which shows the evaluation and nothing else."""
    package = evaluation.package
    summaries = evaluation.labels
    labels = [summary.label for summary in summaries]
    return render(
        "evaluation/report.html.jinja",
        title=f"Evaluation of {package.name} {package.version}",
        evaluation=evaluation,
        package=package,
        dataset=evaluation.dataset,
        command=command,
        unmeasured=[(each.case.title, each.reason) for each in evaluation.unmeasured],
        tables=[_label_table(summaries), _lesion_table(summaries), _present_table(summaries)] if summaries else [],
        subsets=subset_table(evaluation),
        plots=[
            Picture(
                box_plot(evaluation.cases, labels, metric, None),
                f"Box plot of {metric.title}",
                f"{metric.title}, all cases.",
            )
            for metric in METRICS[:2]
            if summaries
        ],
        volumes=_volume_table(summaries),
        bland_altman=bland_altman(summaries) if summaries else b"",
        comparisons=_comparison_table(evaluation),
        subgroup_plots=_subgroup_plots(evaluation, labels),
        overlays=[_overlay(figure) for figure in figures],
        not_found_mm=f"{NOT_FOUND_MM:.2f}",
    )


def _label_table(summaries: Sequence[LabelSummary]) -> Table:
    metrics = METRICS[:4]
    rows = [
        (
            *(title_of(summary.label), str(len(summary.scores)), str(len(summary.present))),
            *(_format_spread(summary.metrics[metric.name]) for metric in metrics),
        )
        for summary in summaries
    ]
    head = ("Label", "Cases", "of these with the label", *(metric.title_and_unit for metric in metrics))
    return Table(head, rows, "All cases: median [95 % interval] (quartiles)")


def _present_table(summaries: Sequence[LabelSummary]) -> Table:
    rows = [
        (
            *(title_of(summary.label), str(len(summary.present))),
            *(_format_spread(summary.metrics_where_present.get(name)) for name in ("dice", "hd95_mm")),
            _format_spread(summary.false_ml),
        )
        for summary in summaries
    ]
    head = ("Label", "Cases with it", "Dice", "HD95 (mm)", "ml found where there is none")
    caption = "Cases whose truth holds the label, and what was found in the others: median [95 % interval] (quartiles)"
    return Table(head, rows, caption)


def _lesion_table(summaries: Sequence[LabelSummary]) -> Table:
    rows = [
        (
            *(title_of(summary.label), f"{pooled.detected} of {pooled.true}", f"{pooled.confirmed} of {pooled.found}"),
            f"{pooled.sensitivity:.3f} / {pooled.precision:.3f} / {pooled.f1:.3f}",
            _format_spread(summary.metrics["lesion_f1"]),
        )
        for summary in summaries
        for pooled in (summary.lesions,)
    ]
    head = ("Label", "True lesions detected", "Found lesions confirmed", "Sensitivity / precision / F1", "F1 by case")
    return Table(head, rows, "Lesions of all cases together; in the last column each case counts once")


def _volume_table(summaries: Sequence[LabelSummary]) -> Table:
    rows = [
        (title_of(summary.label), f"{volume.bias_ml:+.2f}", "{:+.2f} to {:+.2f}".format(*volume.limits_ml))
        for summary in summaries
        if (volume := summary.volume) is not None
    ]
    return Table(("Label", "Bias (ml)", "95 % limits of agreement (ml)"), rows, "Found - true")


def _comparison_table(evaluation: Evaluation) -> Table:
    titles = {metric.name: metric.title_and_unit for metric in METRICS}
    rows = [
        (
            f"{each.grouping}: {each.groups[0][0]}, {each.groups[1][0]}",
            title_of(each.label),
            titles[each.metric],
            *(f"{_format_spread(values)}, n = {values.count}" for _, values in each.groups),
            *(format_p(each.difference.p), format_p(each.p_holm), f"{each.difference.cliffs_delta:+.2f}"),
        )
        for each in evaluation.comparisons
    ]
    head = ("Groups", "Label", "Metric", "First", "Second", "p", "p (Holm)", "Cliff's delta")
    return Table(head, rows, "Mann-Whitney U; delta above 0: the first group's values are higher")


def _subgroup_plots(evaluation: Evaluation, labels: Sequence[str]) -> list[Picture]:
    if not evaluation.comparisons:
        return []
    return [
        Picture(
            box_plot(evaluation.cases, labels, METRICS[0], grouping),
            f"Dice by {grouping.name}",
            f"Dice by {grouping.name} ({grouping.source}).",
        )
        for grouping in evaluation.groupings
        if len(set(grouping.groups.values())) > 1
    ]


def _overlay(figure: Figure) -> Picture:
    case = figure.score.case
    panels = ", ".join(
        f"{title_of(score.label)} (slice {index + 1}) Dice {score.dice:.3f}"
        for score, index in zip(figure.score.labels, figure.overlay.slices, strict=True)
    )
    rank = "" if figure.rank is None else f", {figure.rank}"
    return Picture(figure.overlay.png, f"Case {case.title}", f"{case.title}{rank}: {panels}")


def _format_spread(values: Spread | None) -> str:
    if values is None:
        return "-"
    low, high = values.quartiles
    interval = "" if values.median_interval is None else " [{:.3g}, {:.3g}]".format(*values.median_interval)
    return f"{values.median:.3g}{interval} ({low:.3g} to {high:.3g})"
