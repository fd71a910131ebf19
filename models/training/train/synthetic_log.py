"""The log of a pretraining that may have had several runs: joined into one, and drawn."""

import csv
from pathlib import Path

_SMOOTHED = 20
"""Log lines in a drawn value: single heads differ far more than the network does from one line to the next."""


def join_logs(work: Path) -> Path | None:
    """One CSV of all runs' logs in a work folder, by step; None without any.

    A run that goes on from a checkpoint repeats the steps after it: what the later run logged stands.
    """
    logs = sorted((work / "log").glob("*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return None
    by_step: dict[int, dict[str, str]] = {}
    for log in logs:
        with log.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("loss")]
        first = min((int(row["step"]) for row in rows), default=0)
        by_step = {step: row for step, row in by_step.items() if step < first}
        by_step.update({int(row["step"]): row for row in rows})
    if not by_step:
        return None
    joined = work / "training_log.csv"
    with joined.open("w", newline="") as out:
        writer = csv.DictWriter(out, sorted(set().union(*by_step.values())), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(by_step[step] for step in sorted(by_step))
    return joined


def draw_log(log: Path, labels: tuple[str, ...], path: Path) -> None:
    """A PNG of loss and soft Dice on the heads that were trained on, means over some lines of the log."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a display

    with log.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    steps = _means([float(row["step"]) for row in rows])
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, _means([float(row["loss"]) for row in rows]), color="black")
    above.set_ylabel("training loss")
    for label in labels:
        below.plot(steps, _means([float(row[f"soft_dice_{label}"]) for row in rows]), label=label, linewidth=1)
    below.set_ylabel("soft Dice on training heads")
    below.set_ylim(0, 1)
    below.set_xlabel("step")
    below.legend(fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _means(values: list[float]) -> list[float]:
    parts = [values[start : start + _SMOOTHED] for start in range(0, len(values), _SMOOTHED)]
    return [sum(part) / len(part) for part in parts]
