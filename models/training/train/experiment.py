"""From a data set to model packages: pretrain or fine-tune, choose thresholds, write. The whole way, step by step."""

import csv
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import torch
from torch import nn

from models.labels import LABELS
from models.network import NetworkSettings, count_parameters
from models.package import CURVES_FILE, NORMALISATION, IntendedUse, ModelPackage, OutputLabel, check_package
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.lineage import Lineage, TrainingRecord, package_label, read_lineage
from models.training.dataset.manifest import Split
from models.training.train.checkpoints import CURVE, LAST
from models.training.train.code_version import code_version
from models.training.train.fit import ORIGIN, Plan, Report, Trained, check_cases, train
from models.training.train.folds import fold_cases
from models.training.train.learning_curves import draw_curves
from models.training.train.lightning_module import Cases, TrainingStopped
from models.training.train.model_card import training_card
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import SettingsContradict, TrainSettings
from models.training.train.synthetic_learner import fresh_network
from models.training.train.thresholds import LabelOnValidation, output_labels, tune
from models.training.train.transfer import Source, transfer
from models.training.train.write_package import Fact, Provenance, write_package
from models.weights import load_network
from pipeline.segment import pick_device


@dataclass(frozen=True, slots=True)
class Parent:
    """The package that fine-tuning begins with, and where its weights go."""

    package: ModelPackage
    channels: tuple[Source, ...]
    heads: tuple[Source, ...]
    dropped: tuple[str, ...] = ()

    def origin(self) -> Mapping[str, str]:
        """What of it decides the network's first weights, by `ORIGIN`."""
        words = (
            self.package.weights_sha256,
            ", ".join(map(str, self.channels)),
            ", ".join(map(str, self.heads)),
            ", ".join(self.dropped),
        )
        return {name: word for name, word in zip(ORIGIN, words, strict=True) if word}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained, on what, and where it goes."""

    dataset: Dataset
    settings: TrainSettings
    package: ModelPackage
    """All but weights and thresholds, see `describe`."""
    work: Path
    """Folder for checkpoints, logs and the cache."""
    command: str
    """As it was given; recorded."""
    parent: Parent | None = None
    folds: int = 0
    """Cross-validation with so many folds, a package each; 0 uses the data set's own splits."""
    resume: Path | None = None
    """A checkpoint, or the work folder of a run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One package that was made."""

    package: ModelPackage
    trained: Trained
    tuned: tuple[LabelOnValidation, ...]

    @property
    def mean_dice(self) -> float:
        """On the validation cases, over the labels."""
        return statistics.fmean(each.mean_dice for each in self.tuned)


def describe(
    dataset: Dataset, network: NetworkSettings, spacing_mm: float, settings: TrainSettings, folder: Path
) -> ModelPackage:
    """The package that training will fill, called like its folder. Labels of the node come in the node's order."""
    ours = tuple(label.name for label in LABELS)
    labels = ours if set(dataset.labels) == set(ours) else dataset.labels
    return ModelPackage(
        name=folder.name,
        version="1.0.0",
        intended_use=IntendedUse.RESEARCH,
        summary="",
        channels=dataset.channels,
        spacing_mm=spacing_mm,
        normalisation=NORMALISATION,
        window=settings.patch or None,
        labels=tuple(OutputLabel(label, 0.5) for label in labels),
        network=network,
        weights_sha256="",
        folder=folder,
    )


def carry_out(order: Order, report: Report, begin: Callable[[str], None]) -> tuple[Outcome, ...]:
    """Train and write the package, or one a fold into its folder; empty in all processes but the first.

    `begin` is told what is about to run. Raises PackageBroken, SettingsContradict, TrainingStopped, DatasetBroken,
    NamesDoNotMatch and OSError; what training computed until then lies in the work folder.
    """
    order.settings.check_network(order.package.network)
    check_package(order.package, order.package.folder)
    if order.folds and order.settings.devices * order.settings.nodes > 1:
        raise SettingsContradict("folds are trained one after the other: give each its own process, not --devices")
    if order.folds and order.resume is not None and order.resume.is_file():
        raise SettingsContradict(f"{order.resume} is one file: with --folds, --resume takes the work folder")
    outcomes = []
    for fold, (training, validation), work in list(_parts(order)):
        begin(f"fold {fold} of {order.folds}" if fold else "training")
        outcome = _one(order, fold, training, validation, work, report)
        if outcome is None:
            return ()
        outcomes.append(outcome)
        if not outcome.trained.complete:
            break
    if order.folds:
        _write_folds(order.package.folder / "folds.csv", outcomes)
    return tuple(outcomes)


def _parts(order: Order) -> Iterator[tuple[int, tuple[tuple[Case, ...], tuple[Case, ...]], Path]]:
    """Number, training and validation cases, and work folder of each run."""
    dataset = order.dataset
    if not order.folds:
        yield 0, (dataset.of(Split.TRAIN), dataset.of(Split.VALIDATION)), order.work
        return
    for fold, cases in enumerate(fold_cases(dataset, order.folds, order.settings.seed), start=1):
        yield fold, cases, order.work / f"fold-{fold}"


def _one(
    order: Order, fold: int, training: tuple[Case, ...], validation: tuple[Case, ...], work: Path, report: Report
) -> Outcome | None:
    package = order.package
    if fold:
        package = replace(package, name=f"{package.name}-fold{fold}", folder=package.folder / f"fold-{fold}")
    view = View(package.channels, tuple(label.name for label in package.labels), package.spacing_mm)
    prepared = prepared_cases(order.settings.cache, view, order.work / "cache")
    cases = Cases(training, validation, prepared)
    check_cases(cases)
    origin = order.parent.origin() if order.parent is not None else {}
    plan = Plan(view, package.network, package.window, order.settings, order.dataset.fingerprint, fold, origin)
    network = begin_network(order)
    trained = train(plan, network, cases, work, report, _checkpoint(order, work))
    if trained is None:
        return None
    if trained.curve.best is None:
        raise TrainingStopped(f"Ended before the first epoch was over; go on with --resume {work}.")
    tuned = tune(package, network, validation, prepared, pick_device("auto"))
    package = replace(package, labels=output_labels(tuned), summary=_summary(order, len(training)))
    provenance = Provenance(tuple(_facts(order, trained, cases, network, tuned)), _learned(order, package, cases))
    draw_curves(trained.curve, view.labels, work / CURVES_FILE)
    card = training_card(package, provenance, tuned)
    written = write_package(package, network, provenance, work / CURVE, card, (work / CURVES_FILE,))
    return Outcome(written, trained, tuned)


def _checkpoint(order: Order, work: Path) -> Path | None:
    """The checkpoint to go on from. Raises SettingsContradict where there is an earlier run that nobody speaks of."""
    if order.resume is not None and order.resume.is_file():
        return order.resume
    last = work / LAST
    if order.resume is None and last.is_file():
        raise SettingsContradict(
            f"{work} holds an earlier run: go on with --resume {work}, or choose another folder with --work"
        )
    if order.resume is not None and not last.is_file() and not order.folds:
        raise SettingsContradict(f"{order.resume} holds no {LAST} to go on from; begin anew without --resume")
    return last if last.is_file() else None


def begin_network(order: Order) -> nn.Module:
    """The network before its first step: fresh, by the seed, or with its parent's weights."""
    package = order.package
    torch.manual_seed(order.settings.seed)
    network = fresh_network(package.network, len(package.channels), len(package.labels))
    if order.parent is None:
        return network
    parent = order.parent.package
    names = tuple(parent.channels), tuple(label.name for label in parent.labels)
    return transfer(load_network(parent), network, order.parent.channels, order.parent.heads, names)


def _learned(order: Order, package: ModelPackage, cases: Cases) -> Lineage:
    """What the parent learned from, and this."""
    before = Lineage(()) if order.parent is None else read_lineage(order.parent.package)
    training, validation = (tuple(sorted({case.patient for case in some})) for some in (cases.train, cases.validation))
    return before.with_record(TrainingRecord(package_label(package), order.dataset.manifest.key, training, validation))


def _summary(order: Order, cases: int) -> str:
    source = order.dataset.manifest.source.value
    if order.parent is None:
        return f"Pretrained on {cases} cases ({source}). For research, not for patients."
    parent = order.parent.package
    return (
        f"Fine-tuned from {parent.name} {parent.version} on {cases} cases ({source}). For research, not for patients."
    )


def _facts(
    order: Order, trained: Trained, cases: Cases, network: nn.Module, tuned: tuple[LabelOnValidation, ...]
) -> Iterator[tuple[str, Fact]]:
    settings, manifest, best = order.settings, order.dataset.manifest, trained.curve.best
    assert best is not None
    yield from (("command", order.command), ("trained_on", f"data set ({manifest.source.value})"))
    yield from (("data_fingerprint", manifest.fingerprint), ("training_cases", len(cases.train)))
    yield from (("validation_cases", len(cases.validation)), ("code", code_version()))
    yield from (("preset", settings.preset.value), ("epochs", len(trained.curve.epochs)), ("best_epoch", best.epoch))
    yield from (("ended_early", 0 if trained.complete else 1), ("seed", settings.seed))
    if order.parent is not None:
        parent = order.parent
        yield from (("parent_name", parent.package.name), ("parent_version", parent.package.version))
        yield from parent.origin().items()
    for name in ("learning_rate", "warm_up_epochs", "batch", "patch", "crops_per_case", "foreground", "intensity"):
        yield name, getattr(settings, name)
    yield from (("precision", settings.precision), ("processes", settings.devices * settings.nodes))
    yield from (("parameters", count_parameters(network)), ("seconds", round(trained.seconds)))
    yield ("thresholds_tuned_on", f"{len(cases.validation)} validation cases")
    for each in tuned:
        yield f"validation_dice_{each.label.lower()}", round(each.mean_dice, 4)
    yield from (("torch", torch.__version__), ("lightning", lightning.__version__))


def _write_folds(path: Path, outcomes: list[Outcome]) -> None:
    """A row a fold, then their mean and standard deviation."""
    labels = [each.label for each in outcomes[0].tuned]
    rows = [[outcome.mean_dice, *(each.mean_dice for each in outcome.tuned)] for outcome in outcomes]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["fold", "mean_dice", *(f"dice_{label}" for label in labels)])
        for number, row in enumerate(rows, start=1):
            writer.writerow([number, *(f"{value:.4f}" for value in row)])
        for name, of in (("mean", statistics.fmean), ("sd", _deviation)):
            writer.writerow([name, *(f"{of(column):.4f}" for column in map(list, zip(*rows, strict=True)))])


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
