"""Test `glionode demo`: its report, its pictures, and that it leaves no process running."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from models.labels import PAPER_LABELS
from tests.support.command_line import Demonstration

LEAST_DICE = {"enhancing_tumour": 0.75, "adc_abnormality": 0.8, "flair_hyperintensity": 0.8}


def test_the_demonstration_reports_volumes_dice_and_files(demonstration: Demonstration) -> None:
    assert demonstration.finished.status == 0, demonstration.finished.err
    text = demonstration.finished.out
    for label in PAPER_LABELS:
        row = re.search(rf"^{label.title} +([\d.]+) +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
        assert row, text
        true_ml = json.loads((demonstration.out / "phantom" / "truth.json").read_text())["volume_ml"]
        key = {"enhancing_tumour": "enhancing"}.get(label.name, label.name.split("_")[0])
        assert float(row[2]) == pytest.approx(true_ml[key], rel=0.05, abs=0.2)  # the same head on another grid
        # A shifted or flipped mask or another label gives far less; the model card has the model's own numbers.
        assert float(row[3]) > LEAST_DICE[label.name], text
    assert "says nothing about patients" in text
    for name in ("SEG", "SR", "picture"):
        path = re.search(rf"^{name} +(\S+)$", text, re.MULTILINE)
        assert path
        assert (demonstration.out / path[1]).is_file()


def test_the_picture_shows_every_label(demonstration: Demonstration) -> None:
    picture = np.asarray(Image.open(demonstration.out / "overlay.png"))
    image = picture[110:]  # without the caption
    for label in PAPER_LABELS:
        assert (image == label.colour_rgb).all(axis=2).sum() > 50, label.title


def test_the_demonstration_leaves_no_process_running(demonstration: Demonstration) -> None:
    assert not (demonstration.out / "node" / "serve.json").exists()
    assert not list((demonstration.out / "node").rglob("postmaster.pid"))
