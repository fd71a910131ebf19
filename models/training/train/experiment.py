"""Make model packages from cases: choose the first weights, train, choose thresholds, write the package."""

import csv
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from models.labels import Role
from models.network import NetworkSettings
from models.package import CURVES_FILE, NORMALISATION, IntendedUse, ModelPackage, OutputLabel, check_package
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import Split
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.samples import SampleSettings
from models.training.train.checkpoints import CHECKPOINT_FILE, CURVE_FILE, curve_csv, write_whole
from models.training.train.dataset_cases import DatasetCases, fold_cases
from models.training.train.fit import ProgressCallback, TrainingResult, train
from models.training.train.joined_sets import JoinedSets, in_registry_order, sets_table
from models.training.train.learner import TrainingStopped, fresh_network
from models.training.train.learning_curves import draw_curves
from models.training.train.mixed_cases import mix
from models.training.train.model_card import training_card
from models.training.train.optional_channels import channels_absent_in_training, check_wanted, optional_channels
from models.training.train.plan import Plan
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.provenance import lineage, summary, training_facts
from models.training.train.resume import is_package
from models.training.train.settings import SettingsContradict, TrainSettings
from models.training.train.sources import CaseSource
from models.training.train.synthetic_heads import HEAD_LABELS, REFINEMENTS, SyntheticHeads
from models.training.train.thresholds import SubsetDice, Tuned, TunedLabel, tune
from models.training.train.transfer import Parent, plane_name, plane_sources, transfer
from models.training.train.write_package import Provenance, write_package
from models.weights import load_network
from pipeline.segment import pick_device


@dataclass(frozen=True, slots=True)
class Experiment:
    """A training to run: its cases, its settings, and the package and folder to write."""

    cases: Dataset | JoinedSets | SampleSettings
    """A data set, several of them, or how synthetic heads are cut."""
    settings: TrainSettings
    package: ModelPackage
    """All but weights and thresholds, see `describe`."""
    work: Path
    """Folder for checkpoints, logs and the cache."""
    command: str
    """The command line; recorded in the package."""
    parent: Parent | None = None
    folds: int = 0
    """Cross-validate with so many folds and write a package for each; 0 uses the data set's own splits."""
    optional: tuple[Role, ...] | None = None
    """Channels that the package can do without; None for those that `optional_channels` finds."""
    resume: Path | None = None
    """A checkpoint, the work folder of a run, or (with synthetic heads) a package."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One package that was written."""

    package: ModelPackage
    trained: TrainingResult
    tuned: tuple[TunedLabel, ...]
    subsets: tuple[SubsetDice, ...] = ()

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the labels that are measured, on the cases on which thresholds were chosen; NaN for none."""
        means = [each.mean_dice for each in self.tuned if each.is_measured]
        return statistics.fmean(means) if means else math.nan


def describe(
    cases: Dataset | JoinedSets | SampleSettings,
    network: NetworkSettings,
    spacing_mm: float,
    settings: TrainSettings,
    folder: Path,
    name: str | None = None,
    version: str = "1.0.0",
    parent: ModelPackage | None = None,
) -> ModelPackage:
    """Return the package that training will fill, by default named after its folder.

    Labels that the node knows are in its order. The network takes presence planes if training shows it incomplete
    cases, or if that of `parent`, from which training starts, does.
    """
    heads = isinstance(cases, SampleSettings)
    channels, labels = (CHANNELS, HEAD_LABELS) if isinstance(cases, SampleSettings) else (cases.channels, cases.labels)
    absent = channels_absent_in_training(channels, () if isinstance(cases, SampleSettings) else cases.cases, settings)
    package = ModelPackage(
        name=name or folder.name,
        version=version,
        intended_use=IntendedUse.RESEARCH,
        summary="",
        channels=channels,
        spacing_mm=spacing_mm,
        normalisation=NORMALISATION,
        window=settings.patch or None,
        labels=tuple(OutputLabel(label, 0.5) for label in in_registry_order(labels)),
        network=network,
        weights_sha256="",
        folder=folder,
        presence=bool(absent) or (parent is not None and parent.presence),
    )
    if not heads:
        return package
    return replace(
        package,
        intended_use=IntendedUse.DEMONSTRATION,
        summary="Trained on synthetic heads only, to show that the node works. Not for patients.",
        window=None,
        labels=tuple(replace(label, refinement=REFINEMENTS[label.name]) for label in package.labels),
        mirror=True,  # half of the heads that it learns from are mirrored
    )


def run_experiment(
    experiment: Experiment, report: ProgressCallback, begin: Callable[[str], None]
) -> tuple[Outcome, ...]:
    """Train and write the package, or one for each fold into its folder; empty in all processes but the first.

    `begin` is called with a title before each training. Raises PackageBroken, SettingsContradict, TrainingStopped,
    DatasetBroken, NamesDoNotMatch and OSError; the work folder keeps what was trained until then.
    """
    settings, package, resume = experiment.settings, experiment.package, experiment.resume
    cases: tuple[Case, ...] = ()
    if not isinstance(experiment.cases, SampleSettings):
        settings.check_network(package.network)
        cases = experiment.cases.of(Split.TRAIN)
    check_package(package, package.folder)
    if experiment.optional is not None:
        absent = channels_absent_in_training(package.channels, cases, settings)
        check_wanted(package.channels, absent, experiment.optional)
    if experiment.folds and settings.devices * settings.nodes > 1:
        raise SettingsContradict("folds are trained one after the other: give each its own process, and devices 1")
    if experiment.folds and resume is not None and resume.is_file():
        raise SettingsContradict(f"{resume} is one file: with --folds, --resume takes the work folder")
    outcomes = []
    for fold, source, work in list(_sources(experiment)):
        begin(f"fold {fold} of {experiment.folds}" if fold else "training")
        outcome = _train_and_write(experiment, fold, source, work, report)
        if outcome is None:
            return ()
        outcomes.append(outcome)
        if not outcome.trained.complete:
            break
    if experiment.folds:
        _write_folds(package.folder / "folds.csv", outcomes)
    return tuple(outcomes)


def _sources(experiment: Experiment) -> Iterator[tuple[int, CaseSource, Path]]:
    """Yield number, cases and work folder of each training."""
    dataset, package, settings, work = experiment.cases, experiment.package, experiment.settings, experiment.work
    if isinstance(dataset, SampleSettings):
        if settings.synthetic_share:
            raise SettingsContradict("synthetic_share mixes heads into a data set: without one, leave it at 0")
        yield 0, SyntheticHeads(dataset, settings, package.presence), work
        return
    view = View(package.channels, tuple(label.name for label in package.labels), package.spacing_mm, package.presence)
    if experiment.folds:
        folds = list(fold_cases(dataset, experiment.folds, settings.seed))
        trainings = [(fold, cases, work / f"fold-{fold}") for fold, cases in enumerate(folds, start=1)]
    else:
        trainings = [(0, (dataset.of(Split.TRAIN), dataset.of(Split.VALIDATION)), work)]
    for fold, cases, folder in trainings:
        prepared = prepared_cases(settings.cache, view, folder / "cache")
        source = DatasetCases(dataset, *cases, prepared, view, settings)
        yield fold, mix(source, package.network) if settings.synthetic_share else source, folder


def _train_and_write(
    experiment: Experiment, fold: int, source: CaseSource, work: Path, report: ProgressCallback
) -> Outcome | None:
    package, settings = experiment.package, experiment.settings
    if fold:
        package = replace(package, name=f"{package.name}-fold{fold}", folder=package.folder / f"fold-{fold}")
    origin = experiment.parent.origin() if experiment.parent is not None else {}
    plan = Plan(source, package.network, package.window, settings, fold, origin)
    network = first_network(package, settings.seed, experiment.parent)
    trained = train(plan, network, work, report, experiment.command, _checkpoint(experiment, work))
    if trained is None:
        return None
    if trained.curve.best is None and source.validation_cases:
        raise TrainingStopped(f"Training ended before the first epoch was over; go on with --resume {work}.")
    tuned = tune(package.labels, source.tuning_cases(package, network, pick_device("auto")))
    thresholds = {each.label: each.threshold for each in tuned.labels}
    labels = tuple(replace(each, threshold=thresholds.get(each.name, each.threshold)) for each in package.labels)
    package = replace(package, labels=labels)
    if package.presence:
        absent = channels_absent_in_training(package.channels, getattr(source, "train", ()), settings)
        package = replace(package, optional=optional_channels(package, absent, tuned.subsets, experiment.optional))
    patients = None
    if isinstance(source, DatasetCases):
        package = replace(package, summary=summary(experiment.parent, source))
        patients = lineage(experiment.parent, package, source)
    facts = tuple(training_facts(settings, experiment.parent, source, trained, network, tuned.labels))
    written = _write(package, network, Provenance(facts, patients), trained, tuned, source, work)
    return Outcome(written, trained, tuned.labels, tuned.subsets)


def _write(
    package: ModelPackage,
    network: nn.Module,
    provenance: Provenance,
    trained: TrainingResult,
    tuned: Tuned,
    source: CaseSource,
    work: Path,
) -> ModelPackage:
    """Write the package with its card, and with the curve if an epoch was trained."""
    figures: tuple[Path, ...] = ()
    if trained.curve.epochs:
        write_whole(work / CURVE_FILE, curve_csv(trained.curve, tuple(label.name for label in package.labels)).encode())
        draw_curves(trained.curve, tuple(label.name for label in package.labels), work / CURVES_FILE)
        figures = (work / CURVES_FILE,)
    sets = getattr(source, "dataset", None)
    table = sets_table(sets) if isinstance(sets, JoinedSets) else ""
    card = training_card(package, provenance, tuned, bool(figures), table)
    return write_package(package, network, provenance, work / CURVE_FILE, card, figures)


def _checkpoint(experiment: Experiment, work: Path) -> Path | None:
    """Return what to resume, if anything. Raises SettingsContradict if `work` holds a run that is not to be resumed."""
    resume, last = experiment.resume, work / CHECKPOINT_FILE
    if resume is not None and (resume.is_file() or is_package(resume)):
        return resume
    if resume is None and last.is_file():
        raise SettingsContradict(
            f"{work} holds an earlier run: go on with --resume {work}, or choose another folder with --work"
        )
    if resume is not None and not experiment.folds:
        last = resume / CHECKPOINT_FILE
        if not last.is_file():
            raise SettingsContradict(f"{resume} holds no {CHECKPOINT_FILE} to resume; start again without --resume")
    return last if last.is_file() else None


def first_network(package: ModelPackage, seed: int, parent: Parent | None = None) -> nn.Module:
    """Return the network before its first step: with random weights, or with those of its parent."""
    torch.manual_seed(seed)
    network = fresh_network(package.network, package.network_channels, len(package.labels))
    if parent is None:
        return network
    inputs, channels = [str(role) for role in parent.package.channels], parent.channels
    if parent.package.presence:
        inputs += [plane_name(role) for role in parent.package.channels]
    if package.presence:
        channels = (*channels, *plane_sources(channels, parent.package))
    names = tuple(inputs), tuple(label.name for label in parent.package.labels)
    return transfer(load_network(parent.package), network, channels, parent.heads, names)


def _write_folds(path: Path, outcomes: list[Outcome]) -> None:
    """Write a row for each fold, then their mean and standard deviation."""
    labels = [each.label for each in outcomes[0].tuned]
    rows = [[outcome.mean_dice, *(each.mean_dice for each in outcome.tuned)] for outcome in outcomes]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["fold", "mean_dice", *(f"dice_{label}" for label in labels)])
        for number, row in enumerate(rows, start=1):
            writer.writerow([number, *(f"{value:.4f}" for value in row)])
        for name, statistic in (("mean", statistics.fmean), ("sd", _deviation)):
            writer.writerow([name, *(f"{statistic(column):.4f}" for column in map(list, zip(*rows, strict=True)))])


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
