"""Describe a training in its package: the facts in model.toml, the patients, and the summary."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import lightning
import torch
from torch import nn

from models.network import count_parameters
from models.package import ModelPackage
from models.software_version import software_version
from models.training.dataset.dataset import Dataset
from models.training.dataset.lineage import Lineage, TrainingRecord, package_label, read_lineage
from models.training.dataset.manifest import CASES_FOLDER
from models.training.train.dataset_cases import DatasetCases, sets_in_words
from models.training.train.fit import TrainingResult
from models.training.train.settings import TrainSettings
from models.training.train.sources import CaseSource
from models.training.train.thresholds import TunedLabel
from models.training.train.transfer import Parent
from models.training.train.write_package import Fact


def training_facts(
    settings: TrainSettings,
    parent: Parent | None,
    source: CaseSource,
    trained: TrainingResult,
    network: nn.Module,
    tuned: tuple[TunedLabel, ...],
) -> Iterator[tuple[str, Fact]]:
    """Yield the table [provenance] of model.toml: names and values, in their order."""
    best, epochs = trained.curve.best, trained.curve.epochs
    yield "command", "; ".join(filter(None, trained.commands))
    yield from source.facts().items()
    yield from (("code", code_version()), ("preset", settings.preset.value), ("epochs", len(epochs)))
    if best is not None and best.validation_dice:
        yield "best_epoch", best.epoch
    yield from (("steps", trained.steps), ("resumed_at_step", trained.resumed_at_step))
    yield from (("ended_early", 0 if trained.complete else 1), ("seed", settings.seed))
    if parent is not None:
        yield from (("parent_name", parent.package.name), ("parent_version", parent.package.version))
        yield from parent.origin().items()
    for name in ("learning_rate", "warm_up_epochs", "batch", "patch", "crops_per_case", "foreground", "intensity"):
        yield name, getattr(settings, name)
    for name in ("drop_channels", "low_resolution"):
        if value := getattr(settings, name):
            yield name, value
    yield from (("precision", settings.precision), ("processes", settings.devices * settings.nodes))
    yield from (("parameters", count_parameters(network)), ("seconds", round(trained.seconds)))
    for each in tuned:
        measured = round(each.mean_dice, 4) if each.is_measured else "unknown: no validation case holds it"
        yield f"validation_dice_{each.label.lower()}", measured
    yield from (("torch", torch.__version__), ("lightning", lightning.__version__))


def lineage(parent: Parent | None, package: ModelPackage, source: DatasetCases) -> Lineage:
    """Return the patients that the parent learned from, and these: a record for each key of pseudonyms."""
    found = Lineage(()) if parent is None else read_lineage(parent.package)
    dataset = source.dataset
    sets = [dataset] if isinstance(dataset, Dataset) else [each.dataset for each in dataset.sets]
    for key in sorted({each.manifest.key for each in sets}):
        folders = {each.folder / CASES_FOLDER for each in sets if each.manifest.key == key}
        training, validation = (
            tuple(sorted({case.patient for case in some if case.folder.parent in folders}))
            for some in (source.train, source.validation)
        )
        found = found.with_record(TrainingRecord(package_label(package), key, training, validation))
    return found


def summary(parent: Parent | None, source: DatasetCases) -> str:
    """Return one line on what a package was trained on and what for."""
    cases, kind = len(source.train), sets_in_words(source.dataset)
    if parent is None:
        return f"Pretrained on {cases} cases ({kind}). For research, not for patients."
    name, version = parent.package.name, parent.package.version
    return f"Fine-tuned from {name} {version} on {cases} cases ({kind}). For research, not for patients."


def code_version() -> str:
    """Return the version of glionode, and in a git checkout the commit, marked as dirty if files differ from it."""
    version = software_version()
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=30, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({described})"
