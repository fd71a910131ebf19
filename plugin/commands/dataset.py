"""The commands that make and check data sets for training: `glionode dataset`. Imports torch only when one runs."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.dataset_making import Making
from plugin.commands.segment import ConfigOption, find_studies, site_rules
from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    from models.labels import Role
    from models.training.dataset.splits import Shares

dataset_app = typer.Typer(
    name="dataset",
    no_args_is_help=True,
    help="Make and check data sets for training.\n\n"
    "Needs the extra: pip install 'glionode[train]'. docs/datasets.md tells the form of a data set.",
)

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Empty or new folder.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        dir_okay=False,
        help="Key that makes names of patients; made where it is not there. Keep it, and keep it from OUT.",
        show_default="in the user's configuration folder",
    ),
]
ValidationOption = Annotated[float, typer.Option(help="Share of the patients that picks the best epoch.")]
TestOption = Annotated[float, typer.Option(help="Share of the patients that nothing sees before the end.")]
SeedOption = Annotated[int, typer.Option(help="Of the lots by which patients are shared out.")]
KeepOption = Annotated[
    Path | None,
    typer.Option("--splits-from", help="Data set whose patients keep their share; made with the same key."),
]
SpacingOption = Annotated[float, typer.Option(help="Edge of the voxels, mm.")]


@dataset_app.command("from-brats")
def from_brats(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with cases of BraTS, any years, any layout.")],
    out: OutArgument,
    channels: Annotated[str, typer.Option(help="Of T1, T1CE, T2, FLAIR.")] = "T2,FLAIR,T1CE",
    labels: Annotated[str, typer.Option(help="Of TC, WT, ET, RC (the cavity, since 2024).")] = "TC,WT,ET",
    spacing: SpacingOption = 1.0,
    validation: ValidationOption = 0.2,
    test: TestOption = 0.0,
    seed: SeedOption = 1,
    splits_from: KeepOption = None,
    key: KeyOption = None,
) -> None:
    """Make a data set of BraTS cases: 2017 to 2021 (4 is enhancing tumour), 2023 and later (3 is; 4 is a cavity).

    What cannot be used is left out with a sentence. Exit status: 0 all were used, 1 something was left out or failed,
    64 wrong usage.

    Example: glionode dataset from-brats BraTS2020_TrainingData brats --seed 1
    """
    _need_extra()
    from models.training.dataset.from_brats import BratsSettings, convert_brats
    from models.training.dataset.manifest import DatasetSource

    _need_folder(source)
    with _refusing():
        settings = BratsSettings(_roles(channels), _words(labels), spacing)
        shares = _shares(validation, test)
        making = Making(out, DatasetSource.BRATS, settings.channels, settings.regions, shares, seed, splits_from, key)
        making.run(lambda writer, report: convert_brats(source, writer, settings, report))


@dataset_app.command("from-dicom")
def from_dicom(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with studies and what was drawn on them, any layout.")
    ],
    out: OutArgument,
    channels: Annotated[str, typer.Option(help="Of T1, T1CE, T2, FLAIR, ADC, DWI.")] = "ADC,FLAIR,T1CE",
    labels: Annotated[str, typer.Option(help="Labels that every case must have.")] = (
        "enhancing_tumour,adc_abnormality,flair_hyperintensity"
    ),
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=LABEL", help="What a segment's name, code or number means; repeatable."),
    ] = None,
    values: Annotated[
        str, typer.Option(help="What label maps hold: numbers (1, 2, 3), or bits (sums of 1, 2, 4).")
    ] = "numbers",
    accept_own: Annotated[
        bool, typer.Option("--accept-own", help="Take the node's own SEG where no person drew anything.")
    ] = False,
    missing_is_empty: Annotated[
        bool, typer.Option("--missing-is-empty", help="Take a label that nobody drew for empty.")
    ] = False,
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Take label maps that stand on the voxels of no series.")
    ] = False,
    spacing: SpacingOption = 1.0,
    validation: ValidationOption = 0.1,
    test: TestOption = 0.2,
    seed: SeedOption = 1,
    splits_from: KeepOption = None,
    key: KeyOption = None,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    config: ConfigOption = None,
) -> None:
    """Make a data set of studies that radiologists drew on: DICOM SEG, .seg.nrrd, NRRD or NIfTI label maps.

    Series are chosen, read and aligned as the node does it. A file belongs to the study in whose folder it lies, a SEG
    to the study that it refers to. A person's SEG goes before the node's own, a later before an earlier. Nothing of the
    headers but geometry comes into OUT; faces are not removed.

    Exit status: 0 all were used, 1 something was left out or failed, 64 wrong usage.

    Example: glionode dataset from-dicom studies ours --map "oedema=flair_hyperintensity" --test 0.3
    """
    _need_extra()
    from models.training.dataset.annotation import LabelNames
    from models.training.dataset.file_annotations import Values
    from models.training.dataset.from_dicom import DicomSettings, convert_dicom
    from models.training.dataset.manifest import DatasetSource
    from pipeline.segment import pick_device
    from plugin.settings.load import load_settings

    _need_folder(source)
    with _refusing():
        settings = DicomSettings(
            rules=site_rules(config),
            channels=_roles(channels),
            labels=_words(labels),
            spacing_mm=spacing,
            names=LabelNames(_mapping(mapping or [])),
            values=Values(values),
            accept_own=accept_own,
            missing_is_empty=missing_is_empty,
            off_grid=off_grid,
            derive_adc=load_settings(config).choose.derive_adc,
            device=pick_device(device),
        )
        found = find_studies(source)
        shares = _shares(validation, test)
        making = Making(out, DatasetSource.DICOM, settings.channels, settings.labels, shares, seed, splits_from, key)
        making.run(lambda writer, report: convert_dicom(source, found, writer, settings, report))


@dataset_app.command("check")
def check(
    dataset: Annotated[Path, typer.Argument(metavar="OUT", exists=True, file_okay=False, help="The data set.")],
) -> None:
    """Look for NaN, shapes, places, values, empty labels, ADC units, and patients or images in two places.

    Leaves check/index.html, with a picture of every case, and check/fingerprint.json in OUT. Exit status: 0 nothing is
    wrong, 1 something is.

    Example: glionode dataset check brats
    """
    _need_extra()
    from models.training.dataset.check_page import check_and_report, page_path
    from models.training.dataset.dataset import read_dataset

    try:
        read = read_dataset(dataset)
        findings = check_and_report(read)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    wrong = [finding for finding in findings if finding.wrong]
    for finding in findings:
        where = f"Case {finding.case_id}: " if finding.case_id and finding.case_id not in finding.sentence else ""
        complain(f"{'Wrong' if finding.wrong else 'To look at'}: {where}{finding.sentence}")
    print(f"{len(read.cases)} cases, {len(wrong)} things wrong, {len(findings) - len(wrong)} to look at.")
    print(f"Pictures and numbers: {page_path(dataset)}")
    if wrong:
        raise typer.Exit(FAILED)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what went wrong in a sentence, with the exit status that tells a failure from wrong usage."""
    try:
        yield
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    except ValueError as exc:
        raise refuse(f"These options cannot be used: {exc}.") from exc


def _need_extra() -> None:
    if importlib.util.find_spec("nibabel") is None:
        raise refuse("Data sets need nibabel, which is not installed here; install glionode[train].")


def _need_folder(source: Path) -> None:
    if not source.is_dir():
        raise refuse(f"{source} is no folder. Give the folder that holds the cases.")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _roles(text: str) -> "tuple[Role, ...]":
    from models.labels import Role

    return tuple(Role(word) for word in _words(text))


def _mapping(given: list[str]) -> dict[str, str]:
    pairs = [each.rpartition("=") for each in given]
    if any(not name or not label for name, _, label in pairs):
        raise ValueError("--map wants NAME=LABEL")
    return {name: label for name, _, label in pairs}


def _shares(validation: float, test: float) -> "Shares":
    from models.training.dataset.splits import Shares

    return Shares(validation, test)
