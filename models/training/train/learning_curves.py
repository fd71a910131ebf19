"""Draw learning curves. Knows nothing of training but its epochs."""

from pathlib import Path

from models.training.train.checkpoints import Curve


def draw_curves(curve: Curve, labels: tuple[str, ...], path: Path) -> None:
    """A PNG: the loss above, Dice on the validation cases below, the best epoch marked."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a display
    from matplotlib.ticker import MaxNLocator

    epochs = [row.epoch for row in curve.epochs]
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(epochs, [row.loss for row in curve.epochs], color="black", marker="." if len(epochs) < 20 else "")
    above.set_ylabel("training loss")
    for number, label in enumerate(labels):
        below.plot(epochs, [row.validation_dice[number] for row in curve.epochs], label=label, linewidth=1)
    below.plot(epochs, [row.mean_dice for row in curve.epochs], label="mean", color="black")
    best = curve.best
    if best is not None:
        for axes in (above, below):
            axes.axvline(best.epoch, color="grey", linestyle=":")
        below.set_title(f"best epoch {best.epoch}: mean Dice {best.mean_dice:.3f}", fontsize=10)
    below.set_ylabel("validation Dice")
    below.set_ylim(0, 1)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.legend(fontsize=8)
    figure.savefig(path, dpi=120)
