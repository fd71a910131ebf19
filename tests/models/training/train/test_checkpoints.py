"""The learning curve: its best epoch, its table, and the log of an older package."""

from pathlib import Path

from models.training.train.checkpoints import Curve, Epoch, curve_csv, read_curve
from models.training.train.learning_curves import draw_curves

VALIDATED = (Epoch(1, 1.0, (0.2,), 5), Epoch(2, 0.9, (0.6,), 10), Epoch(3, 0.8, (0.6,), 15))
NOT_VALIDATED = (Epoch(1, 1.0, (), 5, 1e-3, (0.1,)), Epoch(2, 0.9, (), 10, 2e-3, (0.2,)))


def test_the_best_epoch_is_the_earliest_of_the_best_or_the_last_without_validation() -> None:
    assert Curve(VALIDATED).best is VALIDATED[1]
    assert Curve(NOT_VALIDATED).best is NOT_VALIDATED[1]
    assert Curve().best is None


def test_a_finished_epoch_takes_the_place_of_the_unfinished_one() -> None:
    whole = Epoch(2, 0.7, (), 20)
    assert Curve(NOT_VALIDATED).followed_by(whole).epochs == (NOT_VALIDATED[0], whole)


def test_the_table_has_no_validation_columns_without_validation(tmp_path: Path) -> None:
    assert curve_csv(Curve(NOT_VALIDATED), ("adc",)).splitlines() == [
        "epoch,loss,step,learning_rate,soft_dice_adc",
        "1,1.000000,5,0.001,0.100000",
        "2,0.900000,10,0.002,0.200000",
    ]
    assert curve_csv(Curve(VALIDATED), ("adc",)).splitlines()[0].startswith("epoch,loss,mean_dice,dice_adc,step")
    for curve in (VALIDATED, NOT_VALIDATED):
        draw_curves(Curve(curve), ("adc",), tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_log_of_an_older_package_is_averaged_over_epochs(tmp_path: Path) -> None:
    log = tmp_path / "training_log.csv"
    rows = ["0.001,1.0,0.5,9", "0.002,0.5,0.25,19", "0.003,0.25,0.5,20", "0.004,0.75,0.75,29", ",,0.5,99"]
    log.write_text("\n".join(["learning_rate,loss,soft_dice_adc,step", *rows]) + "\n")
    first, second = read_curve(log, ("adc",), steps_per_epoch=20).epochs
    assert first == Epoch(1, (1.0 + 0.5 + 0.25) / 3, (), 20, 0.003, ((0.5 + 0.25 + 0.5) / 3,))
    assert second == Epoch(2, 0.75, (), 29, 0.004, (0.75,))


def test_a_written_log_is_read_again(tmp_path: Path) -> None:
    log = tmp_path / "training_log.csv"
    log.write_text(curve_csv(Curve(NOT_VALIDATED), ("adc",)))
    assert read_curve(log, ("adc",), steps_per_epoch=5) == Curve(NOT_VALIDATED)
