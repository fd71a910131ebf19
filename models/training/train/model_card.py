"""The model card of a package after training, before an evaluation."""

import statistics

from models.package import CURVES_FILE, IntendedUse, ModelPackage
from models.training.dataset.channel_subsets import is_reported, subset_name
from models.training.train.measured_subsets import absent_from
from models.training.train.thresholds import SubsetDice, Tuned, TunedLabel
from models.training.train.write_package import Provenance

_FOR = {
    IntendedUse.DEMONSTRATION: ("a demonstration, not for patients", "on heads that it never saw"),
    IntendedUse.RESEARCH: ("for research, not for patients", "on the test cases"),
}
"""What a package may be used for, and what `glionode evaluate` measures it on."""


def training_card(package: ModelPackage, provenance: Provenance, tuned: Tuned, has_curves: bool, sets: str = "") -> str:
    """Return the card as Markdown; everything in it comes from this training. `sets` is a table of its data sets."""
    facts = "\n".join(f"- {name.replace('_', ' ')}: `{value}`" for name, value in provenance.facts)
    window = "whole heads" if package.window is None else f"windows of {package.window} voxels"
    window += " and their mirror images" if package.mirror else ""
    title, measured_on = _FOR[package.intended_use]
    curves = f"\n![loss and Dice by epoch]({CURVES_FILE})\n" if has_curves else ""
    return f"""# {package.name} {package.version}: {title}

{package.summary}

## What it is

{package.network.description}. Input {", ".join(package.channels)} on a grid of {package.spacing_mm} mm, in {window}; \
one output sigmoid for each of {", ".join(label.name for label in package.labels)}. The labels overlap.\
{_optional(package)}

## How it was trained

{facts}
{f"{chr(10)}{sets}{chr(10)}" if sets else ""}{curves}
## What was measured

{_thresholds(tuned.labels)}{_subsets(package, tuned.subsets)}`glionode evaluate` measures it {measured_on}.
"""


def _thresholds(tuned: tuple[TunedLabel, ...]) -> str:
    """Return a table of the Dice on the cases on which thresholds were chosen, with its caveats."""
    if not tuned:
        return "Nothing yet: all thresholds were left at 0.5. "
    rows = "\n".join(
        f"| {each.label} | {each.threshold} | {len(each.dice)} | {each.empty} | {each.mean_dice:.3f} "
        f"| {statistics.median(each.dice):.3f} | {min(each.dice):.3f} |"
        if each.is_measured
        else f"| {each.label} | {each.threshold}, not chosen | {len(each.dice)} | all | unknown | unknown | unknown |"
        for each in tuned
    )
    means = [each.mean_dice for each in tuned if each.is_measured]
    mean = f"{statistics.fmean(means):.3f}" if means else "unknown"
    return f"""Dice on the cases on which the thresholds were chosen, whole heads through the node's own steps. Where \
truth and finding are both empty it counts as 1, where one of them is as 0.

| label | threshold | cases | of them without it | mean Dice | median | lowest |
|---|---|---|---|---|---|---|
{rows}

Mean of the labels: **{mean}**. Thresholds, and the epoch where there was validation, were chosen on these very \
cases, so the numbers flatter the model: """


def _optional(package: ModelPackage) -> str:
    if not package.presence:
        return ""
    said = f"A study may lack {' and '.join(package.optional)}" if package.optional else "A study may lack none of them"
    return f" {said}; presence planes tell the network which channels are there."


def _subsets(package: ModelPackage, subsets: tuple[SubsetDice, ...]) -> str:
    """Return a table of the Dice by subset of channels and label, with its caveats; empty for a single subset."""
    if len(subsets) < 2:
        return ""
    names = [label.name for label in package.labels]
    rows = []
    for subset in subsets:
        absent, cells = absent_from(subset.channels, package.channels), []
        for label, dice in zip(package.labels, subset.dice, strict=True):
            value = f"{statistics.fmean(dice):.3f} ({len(dice)})" if dice else "unknown (0)"
            cells.append(value if is_reported(label, absent) else f"*{value}*")
        rows.append(f"| {subset_name(absent, package.channels)} | {' | '.join(cells)} |")
    return f"""

The same by what the network saw of each case, with the number of cases in brackets. In italics: labels that the node \
does not report of such a study, because the series that defines them is missing. Where cases lack channels of their \
own, rows count different cases.

| channels | {" | ".join(names)} |
|---|{"---|" * len(names)}
{chr(10).join(rows)}

"""
