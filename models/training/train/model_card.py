"""The model card of a network that was trained on a data set. Writes no file."""

import statistics

from models.package import CURVES_FILE, ModelPackage
from models.training.train.thresholds import LabelOnValidation
from models.training.train.write_package import Provenance


def training_card(package: ModelPackage, provenance: Provenance, tuned: tuple[LabelOnValidation, ...]) -> str:
    """Markdown; everything in it comes from this run."""
    rows = "\n".join(
        f"| {each.label} | {each.threshold} | {len(each.dice)} | {each.empty} | {each.mean_dice:.3f} "
        f"| {statistics.median(each.dice):.3f} | {min(each.dice):.3f} |"
        for each in tuned
    )
    facts = "\n".join(f"- {name.replace('_', ' ')}: `{value}`" for name, value in provenance.facts)
    mean = statistics.fmean(each.mean_dice for each in tuned)
    window = "whole heads" if package.window is None else f"windows of {package.window} voxels"
    window += " and their mirror images" if package.mirror else ""
    return f"""# {package.name} {package.version}: for research, not for patients

{package.summary}

## What it is

{package.network.description}. Input {", ".join(package.channels)} on a grid of {package.spacing_mm} mm, in {window}; \
one output sigmoid for each of {", ".join(label.name for label in package.labels)}. The labels overlap.

## How it was trained

{facts}

![loss and validation Dice by epoch]({CURVES_FILE})

## What was measured

Dice on the validation cases, whole heads through the node's own steps, on the network's grid. Where truth and finding \
are both empty it counts as 1, where one of them is as 0.

| label | threshold | cases | of them without it | mean Dice | median | lowest |
|---|---|---|---|---|---|---|
{rows}

Mean of the labels: **{mean:.3f}**. Epoch and thresholds were chosen on these very cases, so that the numbers flatter \
the model: `glionode evaluate` measures it on the test cases.
"""
