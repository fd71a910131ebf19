"""Draw box plots and Bland-Altman plots of an evaluation as PNG. Needs matplotlib, of the extra `train`."""

import io
from collections.abc import Sequence
from typing import Any

from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.subgroups import Grouping, Metric
from models.training.evaluation.summary import LabelSummary
from models.training.report.slice_pictures import colours_of, title_of

_DPI = 110
_WIDTH_IN = 9.0


def box_plot(cases: Sequence[CaseScore], labels: Sequence[str], metric: Metric, grouping: Grouping | None) -> bytes:
    """Draw a metric by label and, with a grouping, by group.

    Boxes reach from quartile to quartile, whiskers to 1.5 times that. Every case is a point. Its offset from the
    middle of the box depends on its place in the list, not on chance.
    """
    figure, (axes,) = _figure(1)
    groups = sorted(set(grouping.groups.values())) if grouping else [""]
    names, place = [], 0
    for label, shade in zip(labels, _shades(labels), strict=True):
        for group in groups:
            chosen = [case for case in cases if grouping is None or grouping.groups.get(case.case.case_id) == group]
            values = [metric.of(score) for case in chosen for score in case.labels if score.label == label]
            place += 1
            names.append("\n".join(filter(None, (title_of(label).replace(" ", "\n"), group, f"n = {len(values)}"))))
            if values:
                _box(axes, place, values, shade)
        place += 1 if grouping else 0
        names += [""] if grouping else []
    axes.set_xticks(range(1, len(names) + 1), names, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(metric.title_and_unit)
    if metric.name == "dice":
        axes.set_ylim(-0.03, 1.03)
    return _png(figure)


def bland_altman(summaries: Sequence[LabelSummary]) -> bytes:
    """Draw found - true volume against their mean, a panel for each label, with bias and limits of agreement."""
    figure, panels = _figure(len(summaries))
    shades = _shades([summary.label for summary in summaries])
    for axes, summary, shade in zip(panels, summaries, shades, strict=True):
        means = [(score.found_ml + score.true_ml) / 2 for score in summary.scores]
        differences = [score.difference_ml for score in summary.scores]
        axes.scatter(means, differences, s=14, color=shade, edgecolors="black", lw=0.3)
        axes.axhline(0, color="0.8", lw=0.8, zorder=0)
        if summary.volume is not None:
            for value, style in ((summary.volume.bias_ml, "-"), *((limit, "--") for limit in summary.volume.limits_ml)):
                axes.axhline(value, color="0.3", ls=style, lw=1, zorder=0)
                axes.annotate(
                    f"{value:+.1f}", (1, value), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom"
                )
        axes.set_title(title_of(summary.label), fontsize=9)
        axes.set_xlabel("Mean of both volumes (ml)", fontsize=8)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("Found - true (ml)")
    return _png(figure)


def _box(axes: Any, place: int, values: Sequence[float], colour: tuple[float, ...]) -> None:
    axes.boxplot(
        [values],
        positions=[place],
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": (*colour, 0.35)},
        medianprops={"color": "black"},
    )
    spread = [place + 0.18 * ((number * 7 % 11) / 5 - 1) for number in range(len(values))]
    axes.scatter(spread, values, s=9, color=[colour], edgecolors="black", lw=0.3, zorder=3)


def _shades(labels: Sequence[str]) -> list[tuple[float, ...]]:
    return [tuple(part / 255 for part in colour) for colour in colours_of(labels)]


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # without pyplot: no window, no state that outlives the call

    figure = Figure(figsize=(_WIDTH_IN, 3.4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()
