"""Draw the loss and the Dice of a run by epoch."""

from pathlib import Path

from models.training.train.checkpoints import Curve


def draw_curves(curve: Curve, labels: tuple[str, ...], path: Path) -> None:
    """Write a PNG of the loss and the Dice by epoch.

    Dice is that of the validation cases, with the best epoch marked, or if nothing was validated the soft Dice on the
    training heads.
    """
    from matplotlib.figure import Figure  # not pyplot, which would look for a display
    from matplotlib.ticker import MaxNLocator

    best = curve.best
    validated = best is not None and bool(best.validation_dice)
    epochs = [row.epoch for row in curve.epochs]
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(epochs, [row.loss for row in curve.epochs], color="black", marker="." if len(epochs) < 20 else "")
    above.set_ylabel("training loss")
    for number, label in enumerate(labels):
        dice = [(row.validation_dice if validated else row.soft_dice)[number] for row in curve.epochs]
        below.plot(epochs, dice, label=label, linewidth=1)
    if best is not None and validated:
        below.plot(epochs, [row.mean_dice for row in curve.epochs], label="mean", color="black")
        for axes in (above, below):
            axes.axvline(best.epoch, color="grey", linestyle=":")
        below.set_title(f"best epoch {best.epoch}: mean Dice {best.mean_dice:.3f}", fontsize=10)
    below.set_ylabel("validation Dice" if validated else "soft Dice on training heads")
    below.set_ylim(0, 1)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
