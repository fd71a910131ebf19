"""`glionode pretrain DATASET` and `finetune` pass on their options, and refuse with one sentence."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.support.node import refusal, sentence

pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")

from models.labels import Role
from models.package import read_package
from models.training.dataset.dataset import read_dataset
from models.training.dataset.lineage import find_overlap, read_lineage
from models.training.dataset.manifest import Split
from models.training.train import experiment
from models.training.train.experiment import Experiment
from models.training.train.settings import Cache, Preset
from plugin.commands.app import app
from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.toy_dataset import BRATS, REGIONS, toy_dataset

runner = CliRunner()
TOY = ("--patch", "0", "--epochs", "1", "--learning-rate", "0.003")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def glionode(*arguments: object) -> Result:
    """Run a command that has to succeed."""
    result = runner.invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("data") / "ours", train=2, validation=2, edge=16)


@pytest.fixture(scope="module")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("data") / "brats", 2, 1, BRATS, REGIONS, edge=16)


@pytest.fixture(scope="module")
def general(brats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that was trained on toy cases in BraTS's form."""
    folder = tmp_path_factory.mktemp("general")
    glionode("pretrain", brats, folder / "general", *TOY, "--init-filters", "8", "--work", folder / "work")
    return folder / "general"


def test_pretraining_writes_a_package_with_a_card_and_a_curve(general: Path, brats: Path) -> None:
    package = read_package(general)
    assert (package.name, package.channels) == ("general", BRATS)
    assert [label.name for label in package.labels] == list(REGIONS)
    assert (general / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    card = (general / "MODEL_CARD.md").read_text()
    assert "for research, not for patients" in card
    assert "(learning_curves.png)" in card
    provenance = tomllib.loads((general / "model.toml").read_text())["provenance"]
    assert (provenance["preset"], provenance["training_cases"], provenance["best_epoch"]) == ("paper", 2, 1)


def test_a_package_lists_the_patients_that_it_and_its_parent_learned_from(
    ours: Path, brats: Path, general: Path
) -> None:
    glionode("finetune", ours, "heir", "--from", general, *TOY)
    parent, own = read_lineage(read_package(Path("heir"))).records
    assert (parent.model, own.model) == ("general 1.0.0", "heir 1.0.0")
    for record, folder in ((parent, brats), (own, ours)):
        dataset = read_dataset(folder)
        assert record.key == dataset.manifest.key
        assert set(record.training) == {case.patient for case in dataset.of(Split.TRAIN)}
        assert set(record.validation) == {case.patient for case in dataset.of(Split.VALIDATION)}
    # Both data sets are of the same toy patients: training on one met the other's validation.
    evaluated = glionode("evaluate", "heir", ours, "out", "--split", "all", "--threads", "1", "--worst", "0")
    expected = find_overlap(
        read_lineage(read_package(Path("heir"))), own.key, {*own.training, *own.validation, *parent.validation}
    )
    assert (expected.patients, expected.training, expected.validation) == (4, 2, 2)
    assert sentence(evaluated.stderr) == expected.warnings()[0]
    assert json.loads(Path("out/evaluation.json").read_text())["overlap"] == {
        "patients": 4, "training": 2, "validation": 2, "unknown": [],
    }  # fmt: skip
    assert "Of 4 patients, 2 are among" in Path("out/report.html").read_text()


def test_folds_give_a_package_each_and_their_mean(ours: Path, general: Path, tmp_path: Path) -> None:
    glionode("finetune", ours, "mine", "--from", general, *TOY, "--folds", "2")
    assert [read_package(tmp_path / "mine" / f"fold-{fold}").name for fold in (1, 2)] == ["mine-fold1", "mine-fold2"]
    rows = [line.split(",") for line in (tmp_path / "mine" / "folds.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["fold", "1", "2", "mean", "sd"]
    assert float(rows[3][1]) == pytest.approx((float(rows[1][1]) + float(rows[2][1])) / 2, abs=1e-4)


def test_options_are_passed_on(ours: Path, general: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Experiment] = []

    def run_experiment(wanted: Experiment, *_: Any) -> tuple[()]:
        asked.append(wanted)
        return ()

    monkeypatch.setattr(experiment, "run_experiment", run_experiment)
    Path("more.toml").write_text('patience = 5\nseed = 7\nversion = "2"\npatch = 96\nspacing_mm = 3.0\n')
    options = ["--preset", "fast", "--config", "more.toml", "--cache", "disk", "--workers", "2", "--patch", "64"]
    mapping = ["--channel", "ADC=T2+FLAIR:mean", "--head", "adc_abnormality=reinitialise", "--drop", "TC"]
    glionode("finetune", ours, "mine", "--from", general, *options, *mapping)
    (wanted,) = asked
    settings = wanted.settings
    assert (settings.preset, settings.epochs, settings.patience, settings.seed) == (Preset.FAST, 50, 5, 7)
    assert (settings.cache, settings.workers, settings.precision) == (Cache.DISK, 2, "bf16-mixed")
    assert (wanted.package.version, wanted.package.window, wanted.work) == ("2", 64, Path("runs/mine"))
    assert wanted.package.spacing_mm == 3.0
    assert str(wanted.parent.channels[0]) == "ADC=T2+FLAIR:mean"
    assert str(wanted.parent.heads[1]) == "adc_abnormality=reinitialise"
    assert wanted.parent.dropped == ("TC",)
    assert wanted.optional is None
    assert not wanted.package.presence
    asked.clear()
    shares = ["--drop-channels", "0.35", "--mix-synthetic", "0.3", "--optional", "ADC", "--optional", "T1CE"]
    glionode("finetune", ours, "mine", "--from", general, *shares)
    assert (asked[0].settings.drop_channels, asked[0].settings.synthetic_share) == (0.35, 0.3)
    assert asked[0].optional == (Role.ADC, Role.T1CE)
    assert asked[0].package.presence
    asked.clear()
    glionode("pretrain", ours, "p", "--resume", tmp_path)
    assert (asked[0].settings.epochs, asked[0].work, asked[0].resume) == (100, tmp_path, tmp_path)


def test_several_sets_are_joined_and_the_table_says_what_was_left_out(
    ours: Path, brats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients 0 to 2 are in both sets, with the same T1CE."""
    asked: list[Experiment] = []
    monkeypatch.setattr(experiment, "run_experiment", lambda wanted, *_: asked.append(wanted) or ())
    for order in ((ours, brats), (brats, ours)):
        result = glionode("pretrain", *order, "p", "--weight", "brats=2")
        assert "| brats | 2 | 1 | 0 | 0 | 2 | none |" in result.stdout
        assert "| ours | 1 | 1 | 2 | 0 | 1 | none |" in result.stdout
    one, other = (each.package for each in asked)
    assert one == other
    assert one.channels == (Role.ADC, Role.FLAIR, Role.T1CE, Role.T2)
    assert one.presence
    assert asked[0].cases.fingerprint == asked[1].cases.fingerprint
    for options, words in (
        (["--weight", "brats"], "--weight brats is no weight"),
        (["--weight", "bratz=2"], "the sets are brats, ours"),
        (["--optional", "PET"], "--optional PET is no channel"),
    ):
        status, said = refusal("pretrain", ours, brats, "p", *options)
        assert (status, words in said) == (WRONG_USAGE, True), said
    assert refusal("finetune", ours, "--from", "phantom-demo")[0] == WRONG_USAGE
    assert "are for data sets" in refusal("pretrain", "--synthetic", "p", "--mix-synthetic", "0.3")[1]


CONFIGS = {
    "precision": 'precision = "8-bit"',
    "batch": "batch = 2",
    "devices": "devices = 2",
    "unknown": "epoch = 3",
    "type": 'batch = "two"',
    "broken": "batch = ",
}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["finetune", "OURS", "x", "--from", "GENERAL", "--drop", "FLAIR"], WRONG_USAGE, "FLAIR=FLAIR:copy uses it"),
        (["finetune", "OURS", "x", "--from", "GENERAL", "--head", "adc_abnormality=zero"], WRONG_USAGE, "--drop TC"),
        (["finetune", "OURS", "x", "--from", "GENERAL", "--patch", "36"], WRONG_USAGE, "a multiple of 8"),
        (["finetune", "OURS", "X", "--from", "GENERAL", *TOY], FAILED, "small letters"),
        (["finetune", "OURS", "x", "--from", "absent"], FAILED, "glionode models list"),
        (["finetune", "absent", "x", "--from", "GENERAL"], FAILED, "not a data set"),
        (
            ["pretrain", "OURS", "x", *TOY, "--config", "precision.toml"],
            WRONG_USAGE,
            "Lightning cannot train like this",
        ),
        (["pretrain", "OURS", "x", "--patch", "0", "--config", "batch.toml"], WRONG_USAGE, "batch 2 wants 1"),
        (
            ["pretrain", "OURS", "x", "--config", "unknown.toml"],
            WRONG_USAGE,
            "unknown.toml: there is no setting epoch;",
        ),
        (["pretrain", "OURS", "x", "--config", "type.toml"], WRONG_USAGE, "type.toml: batch is 'two': Input should be"),
        (["pretrain", "OURS", "x", "--config", "broken.toml"], WRONG_USAGE, "broken.toml is no TOML file"),
        (["pretrain", "OURS", "x", *TOY, "--folds", "9"], WRONG_USAGE, "9 folds of 4 patients"),
        (["pretrain", "OURS", "x", *TOY, "--folds", "2", "--config", "devices.toml"], WRONG_USAGE, "and devices 1"),
        (["pretrain", "x", "OURS"], WRONG_USAGE, "OUT comes last. Say: glionode pretrain OURS x"),
        (["finetune", "x", "OURS", "--from", "GENERAL"], WRONG_USAGE, "OUT comes last. Say: glionode finetune OURS x"),
        (["pretrain", "OURS", "x", *TOY, "--resume", "."], WRONG_USAGE, "holds no last.ckpt"),
        (["pretrain", "OURS", "x", *TOY, "--init-filters", "9"], WRONG_USAGE, "init_filters is 9"),
        (["pretrain", "x", "--synthetic", "--folds", "3"], WRONG_USAGE, "--folds needs the patients of a data set"),
        (["pretrain", "x"], WRONG_USAGE, "Say what to train on"),
        (["pretrain", "OURS", "x", "--synthetic"], WRONG_USAGE, "Say what to train on"),
        (
            ["pretrain", "OURS", "x", "--resume", "GENERAL"],
            WRONG_USAGE,
            "only training on synthetic heads resumes a package",
        ),
    ],
)
def test_a_refusal_is_one_sentence_and_writes_no_package(
    ours: Path, general: Path, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    places = {"OURS": str(ours), "GENERAL": str(general)}
    for name, text in CONFIGS.items():
        Path(f"{name}.toml").write_text(text)
    found, said = refusal(*(places.get(argument, argument) for argument in arguments))
    assert (found, words.replace("OURS", str(ours)) in said) == (status, True), said
    assert not (tmp_path / "x").exists()


def test_a_run_is_resumed_with_its_own_parent_and_mapping_only(
    ours: Path, brats: Path, general: Path, tmp_path: Path
) -> None:
    Path("seed.toml").write_text("seed = 2")
    glionode("pretrain", brats, "other", *TOY, "--config", "seed.toml", "--init-filters", "8")
    begun = ["finetune", str(ours), "mine", *TOY, "--from", str(general)]
    glionode(*begun)
    for changed, words in (
        (["--from", str(tmp_path / "other")], "was made with parent_sha256 "),
        (["--channel", "ADC=T2+FLAIR:mean"], "was made with channels_from ADC=T2:copy, "),
        (["--head", "adc_abnormality=reinitialise", "--drop", "TC"], "was made with labels_from enhancing_tumour=ET:"),
        (["--drop", "ET", "--head", "enhancing_tumour=TC"], "was made with labels_from enhancing_tumour=ET:"),
    ):
        status, said = refusal(*begun, *changed, "--resume", "runs/mine")
        assert (status, words in said) == (WRONG_USAGE, True), said
    status, said = refusal("pretrain", ours, "mine", *TOY, "--init-filters", "8", "--resume", "runs/mine")
    assert (status, "and this run says none" in said) == (WRONG_USAGE, True), said
    glionode(*begun, "--resume", "runs/mine")
    provenance = tomllib.loads((tmp_path / "mine" / "model.toml").read_text())["provenance"]
    assert provenance["parent_sha256"] == read_package(general).weights_sha256


def test_an_earlier_run_is_not_overwritten(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "last.ckpt").write_bytes(b"days of work")
    status, said = refusal("pretrain", ours, "x", *TOY)
    assert (status, "go on with --resume runs/x" in said) == (WRONG_USAGE, True), said
    assert (tmp_path / "runs" / "x" / "last.ckpt").read_bytes() == b"days of work"


def test_a_full_disk_at_the_end_leaves_what_was_trained(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x/weights.safetensors")

    monkeypatch.setattr(experiment, "write_package", full)
    toy = ("pretrain", str(ours), "x", *TOY, "--init-filters", "8")
    result = runner.invoke(app, toy)
    assert result.exit_code == FAILED
    assert "No space left on device. The weights are in runs/x; make room" in result.stderr.splitlines()[-1]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    glionode(*toy, "--resume", "runs/x")
    assert read_package(tmp_path / "x").name == "x"
