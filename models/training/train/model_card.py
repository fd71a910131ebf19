"""The model card of a package after training, before an evaluation."""

import statistics

from models.package import CURVES_FILE, IntendedUse, ModelPackage
from models.training.train.thresholds import TunedLabel
from models.training.train.write_package import Provenance

_FOR = {
    IntendedUse.DEMONSTRATION: ("a demonstration, not for patients", "on heads that it never saw"),
    IntendedUse.RESEARCH: ("for research, not for patients", "on the test cases"),
}
"""What a package may be used for, and what `glionode evaluate` measures it on."""


def training_card(
    package: ModelPackage, provenance: Provenance, tuned: tuple[TunedLabel, ...], has_curves: bool
) -> str:
    """Return the card as Markdown; everything in it comes from this training."""
    facts = "\n".join(f"- {name.replace('_', ' ')}: `{value}`" for name, value in provenance.facts)
    window = "whole heads" if package.window is None else f"windows of {package.window} voxels"
    window += " and their mirror images" if package.mirror else ""
    title, measured_on = _FOR[package.intended_use]
    curves = f"\n![loss and Dice by epoch]({CURVES_FILE})\n" if has_curves else ""
    return f"""# {package.name} {package.version}: {title}

{package.summary}

## What it is

{package.network.description}. Input {", ".join(package.channels)} on a grid of {package.spacing_mm} mm, in {window}; \
one output sigmoid for each of {", ".join(label.name for label in package.labels)}. The labels overlap.

## How it was trained

{facts}
{curves}
## What was measured

{_thresholds(tuned)}`glionode evaluate` measures it {measured_on}.
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
