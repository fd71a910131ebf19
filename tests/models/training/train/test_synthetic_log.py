"""The logs of several runs become one, in which the later run's word stands."""

import os
from pathlib import Path

from models.training.train.synthetic_log import draw_log, join_logs


def write(work: Path, run: str, at: float, rows: dict[int, float]) -> None:
    path = work / "log" / run / "metrics.csv"
    path.parent.mkdir(parents=True)
    lines = [f"{loss},{step},0.5" for step, loss in rows.items()]
    path.write_text("\n".join(["loss,step,soft_dice_adc", *lines, ",99,"]) + "\n")
    os.utime(path, (at, at))


def test_what_a_later_run_logged_stands(tmp_path: Path) -> None:
    assert join_logs(tmp_path) is None
    write(tmp_path, "version_10", 1000, {9: 1.0, 19: 0.9, 29: 0.8})
    write(tmp_path, "version_2", 2000, {20: 0.7, 30: 0.6})
    joined = join_logs(tmp_path)
    assert joined is not None
    assert joined.read_text().split() == [
        "loss,soft_dice_adc,step",
        *("1.0,0.5,9", "0.9,0.5,19", "0.7,0.5,20", "0.6,0.5,30"),
    ]
    draw_log(joined, ("adc",), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
