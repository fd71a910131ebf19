"""What `glionode pretrain --synthetic` does: train on heads that are made while it runs."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from plugin.commands.model_arguments import this_command
from plugin.commands.terminal import complain, progress_bar, refuse

if TYPE_CHECKING:
    from models.training.train.synthetic_learner import PretrainSettings
    from models.training.train.synthetic_pretrain import Progress as Trained


def pretrain_on_heads(
    out: Path, name: str, version: str, settings: "PretrainSettings", work: Path | None, resume: Path | None
) -> None:
    """Train, and write the package `out`. Refuses with a sentence."""
    from models.training.train.synthetic_checkpoint import CheckpointDoesNotFit
    from models.training.train.synthetic_pretrain import describe_package
    from models.training.train.synthetic_pretrain import pretrain as train

    with _training_display(settings) as display:
        try:
            package = train(
                describe_package(out, name, version, settings),
                settings,
                command=this_command(),
                work=work or Path("runs") / name,
                report=display.report,
                resume=resume,
            )
        except CheckpointDoesNotFit as exc:
            raise refuse(f"{exc}.") from exc
    print(f"Wrote model {package.name} {package.version} to {out} (weights sha256 {package.weights_sha256[:12]}...).")
    print(f"Measure it on heads that it never saw: glionode evaluate {shlex.quote(str(out))} --synthetic")


class _TrainingDisplay:
    """Shows how training goes: a bar on a terminal, a line at each report elsewhere."""

    def __init__(self, bar: Progress | None, steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("training", total=steps) if bar else None

    def report(self, now: "Trained") -> None:
        """A number of steps is done."""
        dice = " ".join(f"{value:.2f}" for value in now.dice)
        words = f"loss {now.loss:.3f}, soft Dice {dice}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=now.step, description=words)
        else:
            complain(f"step {now.step} of {now.steps}: {words} ({now.seconds / 60:.1f} min)")


@contextmanager
def _training_display(settings: "PretrainSettings") -> Iterator[_TrainingDisplay]:
    with progress_bar() as bar:
        yield _TrainingDisplay(bar, settings.steps)
