"""Tabulate an evaluation by the channels that the cases have."""

from models.training.dataset.channel_subsets import is_reported
from models.training.evaluation.summary import Evaluation
from models.training.report.html import Table, format_number


def subset_table(evaluation: Evaluation) -> Table | None:
    """Return the Dice of each label by subset of channels; None where every case has all channels of the model."""
    if not any(score.absent for score in (*evaluation.cases, *evaluation.reduced)):
        return None
    outputs = {label.name: label for label in evaluation.package.labels}
    rows = [
        (
            *(subset.name, label.label, str(len(label.scores)), str(len(label.present))),
            *map(format_number, (label.median_dice, label.mean_dice, label.lowest_dice)),
            "yes" if is_reported(outputs[label.label], subset.cases[0].absent) else "no",
        )
        for subset in evaluation.subsets
        for label in subset.labels
    ]
    numbers = ("cases", "with the label", "median Dice", "mean", "lowest", "reported by the node")
    return Table(("channels", "label", *numbers), rows, "By the channels that the network was given")
