"""The commands `glionode reader-study make` and `score`. Imports torch only when one runs."""

from pathlib import Path
from typing import Annotated

import typer

from plugin.commands.model_arguments import (
    DeviceOption,
    ModelArgument,
    SplitOption,
    ThreadsOption,
    chosen_device,
    chosen_split,
    find_model,
)
from plugin.commands.output_folder import refuse_overlap
from plugin.commands.terminal import complain, refusing, refusing_os_errors

reader_study_app = typer.Typer(
    name="reader-study", no_args_is_help=True, help="Have radiologists judge masks on a five-point scale, blinded."
)


@reader_study_app.command()
def make(
    model: ModelArgument,
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", file_okay=False, help="Data set that `glionode dataset` made.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for the study; must be empty.")],
    split: SplitOption = "test",
    cases: Annotated[
        int | None, typer.Option(min=1, help="How many cases, drawn at random.", show_default="all")
    ] = None,
    repeats: Annotated[float, typer.Option(min=0, max=1, help="Share of the items that are shown twice.")] = 0.2,
    readers: Annotated[int, typer.Option(min=1, max=26, help="How many readers; each has an order of their own.")] = 2,
    slices: Annotated[int, typer.Option(min=3, help="Largest number of slices of a case.")] = 20,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of all random draws; keep it secret.", show_default="drawn")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 2,
) -> None:
    """Make a reader study: model and manual masks of each case, unlabelled, shuffled, some of them twice.

    OUT/for-readers is for the readers: reading.html opens in any browser, from a disk and without a network, asks the
    steps of the scale of Wan et al. 2024, keeps the answers in the browser and exports them. OUT/key.json states
    whose mask each item shows; keep it to yourself.

    Example: glionode reader-study make my-model my-data reading --cases 30
    """
    from models.package import PackageBroken
    from models.training.dataset.dataset import read_dataset
    from models.training.reader_study.make import FORM_FILE, READERS_FOLDER, ReaderStudySettings, make_study
    from pipeline.errors import GlionodeError

    settings = ReaderStudySettings(cases, repeats, readers, slices, seed)
    chosen, where = chosen_split(split), chosen_device(device, threads)
    package = find_model(model)
    refuse_overlap(dataset, out)
    with refusing(GlionodeError, PackageBroken), refusing_os_errors(f"{out} cannot be written"):
        key = make_study(package, read_dataset(dataset), chosen, settings, where, out, _say_progress)
    print(f"Items: {len(key.items)}; cases: {len(key.foci)}; readers: {readers}.")
    print(f"For the readers, as a whole: {out / READERS_FOLDER} (they open {FORM_FILE}).")
    print(f"Keep {out / 'key.json'} to yourself: it states which masks are the model's.")


@reader_study_app.command()
def score(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", exists=True, file_okay=False, help="Folder that `make` made, with its key.")
    ],
    answers: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[ANSWERS]...",
            dir_okay=False,
            help="Files that readers exported, JSON or CSV, one a reader.",
            show_default="all in OUT/answers",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="CSV of subgroups: a column `case` and others such as `status`, `focality`."),
    ] = None,
) -> None:
    """Score a reader study: means, agreement (ICC(3,1), weighted kappa), model against manual, chi-square by subgroup.

    Writes scores.csv, scores.json and scores.html into OUT. Subgroups are the columns of --groups and, unless a column
    is called so, focality by the components of the truth.

    Example: glionode reader-study score reading answers-0a1b2c3d4e5f-A.json answers-0a1b2c3d4e5f-B.json
    """
    from models.training.evaluation.subgroups import read_groups, with_focality
    from models.training.reader_study.analysis import score_study
    from models.training.reader_study.answer_key import read_key
    from models.training.reader_study.answers import find_answers, read_all
    from models.training.reader_study.scores_page import PAGE_FILE, write_scores
    from pipeline.errors import GlionodeError

    with refusing(GlionodeError), refusing_os_errors(f"{out} cannot be written"):
        key = read_key(out)
        readings = read_all(find_answers(out, answers or []), key)
        groupings = read_groups(groups, list(key.foci)) if groups else ()
        scores = score_study(key, readings, with_focality(groupings, key.foci))
        write_scores(scores, readings, out)
    for reading in readings:
        print(f"Reader {reading.reader}: {len(reading.scores)} of {len(key.items)} items judged")
    for each in scores.agreement:
        if each.icc is not None and each.icc.consistency is not None:
            print(f"{each.source or 'both'}: ICC(3,1) {each.icc.consistency:.3f} over {each.items} items")
    print(f"Tables: {out / PAGE_FILE}")


def _say_progress(done: int, total: int) -> None:
    complain(f"case {done} of {total}")
