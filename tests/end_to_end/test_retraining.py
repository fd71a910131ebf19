"""Test retraining from start to end at toy size, from folders of BraTS to a SEG of the node."""

import csv
import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from tests.support.command_line import CommandResult, glionode

pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")

from models.labels import ENHANCING_TUMOUR, PAPER_LABELS, TUMOUR_CORE, WHOLE_TUMOUR, Role
from models.package import read_package
from models.training.synthetic.head import synthesise
from models.training.synthetic.signal import draw_contrast, signal_levels
from models.training.synthetic.tissue import Tissue
from models.training.synthetic.tumour import Variant
from pipeline.reported_labels import reported_labels
from plugin.worker.warm_model import WarmModel
from tests.support.annotated_study import write_nifti_maps, write_study

SPACING_MM = "5"
SETTINGS = """
[storage]
data_dir = "data"

[model]
name = "ours"

[compute]
device = "cpu"
"""


def write_brats_case(folder: Path, name: str, seed: int) -> None:
    """Write a synthetic head in the form of BraTS 2021: without skull, four images and a label map."""
    head = synthesise(seed, Variant.UNIFOCAL, 4.0)
    brain = np.isin(head.tissue, [Tissue.WHITE, Tissue.GREY, Tissue.CSF, *_lesion()])
    contrast = draw_contrast(np.random.default_rng(seed), spread=0.06)
    numbers = np.zeros(head.tissue.shape, np.uint8)
    for tissue, number in {Tissue.NECROSIS: 1, Tissue.NON_ENHANCING: 1, Tissue.OEDEMA: 2, Tissue.ENHANCING: 4}.items():
        numbers[head.tissue == tissue] = number
    images = {"seg": numbers}
    for role, word in {Role.T1: "t1", Role.T1CE: "t1ce", Role.T2: "t2", Role.FLAIR: "flair"}.items():
        noise = np.random.default_rng([seed, len(word)]).normal(1, 0.03, brain.shape)
        images[word] = (signal_levels(role, contrast)[head.tissue] * noise * brain * 400).astype(np.int16)
    for word, voxels in images.items():
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((4.0, 4.0, 4.0))
        image.SetOrigin(head.geometry.origin_mm)
        (folder / name).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / name / f"{name}_{word}.nii.gz"))


def _lesion() -> list[Tissue]:
    return [Tissue.NECROSIS, Tissue.NON_ENHANCING, Tissue.OEDEMA, Tissue.ENHANCING]


def succeeded(finished: CommandResult) -> CommandResult:
    """Assert that a command succeeded, and return it."""
    assert finished.status == 0, finished.err
    assert "Traceback" not in finished.err
    return finished


def test_from_folders_of_brats_to_a_seg_of_the_node(
    tmp_path: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # toy cases are too small for several threads on a busy machine
    for number in range(2):
        write_brats_case(tmp_path / "BraTS", f"BraTS2021_0000{number}", 100 + number)
    for number in range(2):
        head = synthesise(200 + number, Variant.UNIFOCAL, 4.0)
        study = write_study(tmp_path / "studies" / str(number), head, {}, number)
        for label in PAPER_LABELS:
            write_nifti_maps(study, label)
    Path("threads.toml").write_text("threads = 1")
    toy = ("--patch", "0", "--epochs", "2", "--learning-rate", "0.005", "--config", "threads.toml")
    key = ("--key", "key.hex", "--spacing", SPACING_MM)

    succeeded(glionode("dataset", "from-brats", "BraTS", "brats", *key, "--validation", "0.5"))
    succeeded(glionode("pretrain", "brats", "general", *toy, "--init-filters", "8"))
    succeeded(glionode("dataset", "from-dicom", "studies", "local", *key, "--validation", "0.5", "--test", "0"))
    tuned = succeeded(glionode("finetune", "local", "ours", "--from", "general", *toy, "--cache", "disk"))
    assert "Wrote model ours 1.0.0 to ours" in tuned.out

    document = tomllib.loads(Path("ours/model.toml").read_text())
    parent = tomllib.loads(Path("general/model.toml").read_text())
    assert parent["input"]["channels"] == ["T2", "FLAIR", "T1CE"]
    assert [output["label"] for output in document["output"]] == [label.name for label in PAPER_LABELS]
    provenance = document["provenance"]
    assert provenance["parent_sha256"] == parent["weights"]["sha256"]
    assert provenance["channels_from"] == "ADC=T2:copy, FLAIR=FLAIR:copy, T1CE=T1CE:copy"
    assert provenance["data_fingerprint"] == json.loads(Path("local/dataset.json").read_text())["fingerprint"]
    with Path("ours/training_log.csv").open() as log:
        losses = [float(row["loss"]) for row in csv.DictReader(log)]
    assert len(losses) == 2

    succeeded(glionode("evaluate", "ours", "local", "evaluation", "--split", "validation"))
    assert "ours" in Path("evaluation/report.html").read_text()
    Path("glionode.toml").write_text(SETTINGS)
    general = WarmModel(read_package(Path("general"))).package
    assert reported_labels(general, general.channels).labels == (ENHANCING_TUMOUR, TUMOUR_CORE, WHOLE_TUMOUR)
    succeeded(glionode("models", "install", "ours", "--config", "glionode.toml"))
    succeeded(glionode("segment", "studies/0", "out", "--config", "glionode.toml"))

    report = json.loads(Path("out/report.json").read_text())
    assert (report["status"], report["model"]["name"]) == ("segmented", "ours")
    assert report["model"]["intended_use"] == "research"
    assert report["model"]["sha256"] == document["weights"]["sha256"]
    seg = dcmread("out/seg-t1ce.dcm")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == [label.title for label in PAPER_LABELS]
    dciodvfy = [program("dciodvfy"), "-new", "out/seg-t1ce.dcm"]
    complaints = subprocess.run(dciodvfy, capture_output=True, text=True, check=False).stderr.splitlines()
    assert [line for line in complaints if line.startswith("Error")] == []
