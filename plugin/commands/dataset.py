"""The commands `glionode dataset`, which make and check data sets for training."""

import csv
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.case_names import ReadKeyOption, ShowNamesOption, key_path, name_cases
from plugin.commands.make_dataset import DatasetRequest, make_dataset
from plugin.commands.options import ConfigOption
from plugin.commands.output_folder import refuse_overlap
from plugin.commands.segment import find_studies, load_site_rules
from plugin.commands.terminal import FAILED, complain, refuse, refusing

if TYPE_CHECKING:
    from models.labels import Role

dataset_app = typer.Typer(
    name="dataset",
    no_args_is_help=True,
    help="Make and check data sets for training.\n\n"
    "Needs the extra: pip install 'glionode[train]'. docs/datasets.md describes the format of a data set.",
)

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Empty or new folder.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        dir_okay=False,
        help="File of the key that makes pseudonyms; made if missing. Keep it safe and outside of OUT.",
        show_default="in the user's configuration folder",
    ),
]
KeepNamesOption = Annotated[
    bool,
    typer.Option(
        "--names",
        help="Keep names and folders of cases that are not of a public data set, too, in KEY.names.csv beside the key.",
    ),
]
DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", exists=True, file_okay=False, help="The data set.")]
ValidationOption = Annotated[float, typer.Option(help="Share of the patients that selects the best epoch.")]
TestOption = Annotated[float, typer.Option(help="Share of the patients held out for the final test.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the random split.")]
SplitsFromOption = Annotated[
    Path | None,
    typer.Option("--splits-from", help="Earlier data set, made with the same key, whose patients keep their split."),
]
RequireOption = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="The channels and labels that every case must have: `all`, `any` (one of each), or names with commas. A "
        "case without another one is written with what it has.",
    ),
]
SpacingOption = Annotated[float, typer.Option(help="Edge of the voxels, mm.")]


@dataset_app.command("from-brats")
def from_brats(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with BraTS cases of any year, in any layout.")],
    out: OutArgument,
    channels: Annotated[str, typer.Option(help="Channels, of T1, T1CE, T2 and FLAIR.")] = "T2,FLAIR,T1CE",
    labels: Annotated[
        str,
        typer.Option(help="Labels, of TC, WT, ET, NCR (necrosis) and RC (resection cavity, since 2024)."),
    ] = "TC,WT,ET",
    require: RequireOption = "all",
    numbers: Annotated[
        str | None,
        typer.Option(
            metavar="N=PART,...",
            help="What the label numbers mean where no name of BraTS or FeTS tells, as in 1=NCR,2=ED,3=ET,4=RC.",
            show_default=False,
        ),
    ] = None,
    spacing: SpacingOption = 1.0,
    validation: ValidationOption = 0.2,
    test: TestOption = 0.0,
    seed: SeedOption = 1,
    splits_from: SplitsFromOption = None,
    key: KeyOption = None,
    names: KeepNamesOption = False,
) -> None:
    """Make a data set of BraTS cases of 2017 to 2021, 2023, and 2024 or later, or of other cases of that form.

    Other cases are those with such files under other names; what their label numbers mean must be given with --numbers,
    because 4 is enhancing tumour in some sets and a resection cavity in others. Studies of a patient are recognised by
    their names up to the time point (_Timepoint_2, _ses-01, -101).

    The labels are named tumour_core, whole_tumour, enhancing_tumour, necrotic_core and resection_cavity.

    The command skips cases that it cannot use, says why, and says what a case lacks. Exit status: 0 all cases were
    used, 1 a case was skipped or the command failed, 64 wrong usage.

    Example: glionode dataset from-brats BraTS2020_TrainingData brats --seed 1
    """
    _require_extra()
    from models.training.dataset.from_brats import BratsSettings, convert_brats
    from models.training.dataset.label_numbers import parse_numbers
    from models.training.dataset.manifest import DatasetSource
    from models.training.dataset.required import parse_required
    from models.training.dataset.splits import Shares

    _require_folder(source)
    refuse_overlap(source, out)
    with _errors_as_exits():
        settings = BratsSettings(
            _roles(channels),
            _label_names(labels),
            spacing,
            None if numbers is None else parse_numbers(numbers),
            parse_required(",".join(_label_names(require))),
        )
        request = DatasetRequest(
            out,
            DatasetSource.BRATS,
            settings.channels,
            settings.regions,
            Shares(validation, test),
            seed,
            splits_from,
            key,
            names,
        )
        make_dataset(request, lambda writer, report: convert_brats(source, writer, settings, report))


@dataset_app.command("from-dicom")
def from_dicom(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with studies and their annotations, in any layout.")
    ],
    out: OutArgument,
    channels: Annotated[str, typer.Option(help="Channels, of T1, T1CE, T2, FLAIR, ADC and DWI.")] = "ADC,FLAIR,T1CE",
    labels: Annotated[str, typer.Option(help="Labels, of those that the node knows.")] = (
        "enhancing_tumour,adc_abnormality,flair_hyperintensity"
    ),
    require: RequireOption = "all",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="NAME=LABEL", help="The label that a segment's name, code or number means; repeatable."
        ),
    ] = None,
    values: Annotated[
        str, typer.Option(help="Content of label maps: numbers (1, 2, 3), or bits (sums of 1, 2, 4).")
    ] = "numbers",
    accept_own: Annotated[
        bool,
        typer.Option("--accept-own", help="Accept the node's own SEG as truth where no person annotated the study."),
    ] = False,
    missing_is_empty: Annotated[
        bool, typer.Option("--missing-is-empty", help="Treat a label without annotation as empty.")
    ] = False,
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Accept label maps whose grid matches no series.")
    ] = False,
    spacing: SpacingOption = 1.0,
    validation: ValidationOption = 0.1,
    test: TestOption = 0.2,
    seed: SeedOption = 1,
    splits_from: SplitsFromOption = None,
    key: KeyOption = None,
    names: KeepNamesOption = False,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    config: ConfigOption = None,
) -> None:
    """Make a data set of studies annotated by radiologists: DICOM SEG, .seg.nrrd, NRRD or NIfTI label maps.

    Series are selected, read and aligned as in the node. A file belongs to the study in whose folder it is, a SEG to
    the study that it references. A person's SEG takes precedence over the node's own, a later one over an earlier one.
    Of the headers only the geometry is written to OUT; faces are not removed.

    Exit status: 0 all studies were used, 1 a study was skipped or the command failed, 64 wrong usage.

    Example: glionode dataset from-dicom studies ours --map "oedema=flair_hyperintensity" --test 0.3
    """
    _require_extra()
    from models.training.dataset.annotation import LabelNames
    from models.training.dataset.file_annotations import LabelMapValues
    from models.training.dataset.from_dicom import DicomSettings, convert_dicom
    from models.training.dataset.manifest import DatasetSource
    from models.training.dataset.required import parse_required
    from models.training.dataset.splits import Shares
    from pipeline.segment import pick_device
    from plugin.settings.load import load_settings

    _require_folder(source)
    refuse_overlap(source, out)
    with _errors_as_exits():
        of_node = load_settings(config)
        settings = DicomSettings(
            rules=load_site_rules(config),
            channels=_roles(channels),
            labels=_label_names(labels),
            spacing_mm=spacing,
            names=LabelNames(_mapping(mapping or [])),
            values=LabelMapValues(values),
            accept_own=accept_own,
            missing_is_empty=missing_is_empty,
            required=parse_required(",".join(_label_names(require))),
            off_grid=off_grid,
            derive_adc=of_node.choose.derive_adc,
            min_coverage=of_node.choose.min_coverage,
            align=of_node.alignment.for_pipeline(),
            device=pick_device(device),
        )
        found = find_studies(source)
        request = DatasetRequest(
            out,
            DatasetSource.DICOM,
            settings.channels,
            settings.labels,
            Shares(validation, test),
            seed,
            splits_from,
            key,
            names,
        )
        make_dataset(request, lambda writer, report: convert_dicom(source, found, writer, settings, report))


@dataset_app.command("check")
def check(
    dataset: DatasetArgument,
    names: ShowNamesOption = False,
    key: ReadKeyOption = None,
) -> None:
    """Check files, grids, values, empty labels, ADC units, and patients or images that occur twice.

    Prints how many cases have which channels and labels, and who drew these.

    Names of public cases are printed with their hashes if the table beside the key has them, with --names those of the
    site, too; they are not written to DATASET.

    Writes check/index.html, with a picture of every case, and check/fingerprint.json into DATASET. Exit status: 0
    nothing is wrong, 1 something is wrong.

    Example: glionode dataset check brats
    """
    _require_extra()
    from models.training.dataset.check_page import check_and_report, page_path
    from models.training.dataset.contents import contents_tables
    from models.training.dataset.dataset import read_dataset

    with refusing(GlionodeError):
        read = read_dataset(dataset)
        explained = name_cases(key, [case.case_id for case in read.cases], names)
        findings = check_and_report(read)
    wrong = [finding for finding in findings if finding.wrong]
    for finding in findings:
        where = f"Case {finding.case_id}: " if finding.case_id and finding.case_id not in finding.sentence else ""
        complain(explained(f"{'Wrong' if finding.wrong else 'Review'}: {where}{finding.sentence}"))
    for table in contents_tables(read):
        print(f"{table.caption}:\n\n{table.markdown}\n")
    print(f"{len(read.cases)} cases, {len(wrong)} errors, {len(findings) - len(wrong)} findings to review.")
    print(f"Pictures and numbers: {page_path(dataset)}")
    if wrong:
        raise typer.Exit(FAILED)


@dataset_app.command("names")
def print_names(
    dataset: DatasetArgument,
    cases: Annotated[
        list[str] | None, typer.Argument(metavar="[CASE]...", help="Hashes of cases.", show_default="all of DATASET")
    ] = None,
    key: ReadKeyOption = None,
) -> None:
    """Print the names and folders of cases, as CSV, from the table that was kept beside the key.

    `dataset from-brats` keeps the names of BraTS and FeTS there, with --names those of other cases, too.

    Exit status: 0 all cases have a name, 1 one has none.

    Example: glionode dataset names brats 162d8f50a04a84e3
    """
    _require_extra()
    from models.training.dataset.manifest import read_manifest
    from models.training.dataset.name_table import read_names, table_path

    where = key_path(key)
    with refusing(GlionodeError):
        known, table = read_manifest(dataset).cases, read_names(where)
    if strangers := [case for case in cases or () if case not in known]:
        raise refuse(f"{dataset} has no case {strangers[0]}. Its cases are the folders in {dataset}/cases.", FAILED)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("case", "name", "path"))
    unnamed = 0
    for case in cases or sorted(known):
        if (source := table.cases.get(case)) is None:
            unnamed += 1
        else:
            writer.writerow((case, source.name, source.path))
    if unnamed:
        raise refuse(
            f"{unnamed} cases have no name in {table_path(where)}. Give the key of the data set with --key, or make it "
            "again with --names.",
            FAILED,
        )


@contextmanager
def _errors_as_exits() -> Iterator[None]:
    """Print an error as one sentence and exit: status 1 for a failure, 64 for wrong options."""
    try:
        with refusing(GlionodeError):
            yield
    except ValueError as exc:
        raise refuse(f"The options are wrong: {exc}.") from exc


def _require_extra() -> None:
    if importlib.util.find_spec("nibabel") is None:
        raise refuse("Data sets need nibabel, which is not installed. Install glionode[train].")


def _require_folder(source: Path) -> None:
    if not source.is_dir():
        raise refuse(f"{source} is not a folder. Give the folder that holds the cases.")


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _label_names(text: str) -> tuple[str, ...]:
    """Return the names in a list, labels under those of the registry: TC is tumour_core."""
    from models.training.dataset.label_numbers import label_of_region

    return tuple(map(label_of_region, _split_list(text)))


def _roles(text: str) -> "tuple[Role, ...]":
    from models.labels import Role

    return tuple(Role(word) for word in _split_list(text))


def _mapping(given: list[str]) -> dict[str, str]:
    pairs = [each.rpartition("=") for each in given]
    if any(not name or not label for name, _, label in pairs):
        raise ValueError("--map needs NAME=LABEL")
    return {name: label for name, _, label in pairs}
