"""Make a reader study: pictures and form for the readers, and the key for whoever runs the study."""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import DatasetBroken, Split
from models.training.evaluation.case_channels import channels_to_read, needed_channels
from models.training.evaluation.cases import comparable_labels, refuse_mismatch
from models.training.evaluation.lesions import count_foci
from models.training.evaluation.predict import is_on_node_grid, predict
from models.training.evaluation.score import Masks
from models.training.reader_study.answer_key import Item, Key, MaskSource, write_key
from models.training.reader_study.case_pictures import Scene, slices_to_show, write_pictures
from models.training.reader_study.form import form_page
from models.training.reader_study.reading_order import reading_order
from models.weights import load_network
from pipeline.atomic_write import write_file
from pipeline.volume import Volume

READERS_FOLDER = "for-readers"
"""The folder that readers get, and nothing else."""
FORM_FILE, PICTURES_FOLDER = "reading.html", "pictures"
_SHOWN_FIRST = (Role.T1CE, Role.FLAIR, Role.ADC)
_TIME_OF_ALL = 946_684_800
"""2000-01-01 UTC, which every archive format can hold. When a file was written must not reveal what it shows."""


@dataclass(frozen=True, slots=True)
class ReaderStudySettings:
    """How a reader study is made."""

    cases: int | None = None
    """How many cases, drawn at random; None for all of the split. In Wan et al. two readers judged 30."""
    repeats: float = 0.2
    """Share of the items that are shown twice, for the agreement of readers with themselves."""
    readers: int = 2
    """How many orders of the items are drawn; each reader takes a letter."""
    slices: int = 20
    """Largest number of slices of a case."""
    seed: int | None = None
    """None draws one. It unblinds the study for anyone who has the model and the data; it is in the key."""


def make_study(
    package: ModelPackage,
    dataset: Dataset,
    split: Split | None,
    settings: ReaderStudySettings,
    device: torch.device,
    out: Path,
    report: Callable[[int, int], None],
) -> Key:
    """Write OUT/for-readers and OUT/key.json, the key last; `report` gets how many cases are done, and of how many.

    The labels are those of the package that the data set has. Cases in which a person did not draw every one are left
    out, and those that lack a channel that the package requires. The pictures of an optional channel that a case lacks
    are black. Raises DatasetBroken, PackageBroken and OSError.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetBroken(f"{out} already holds files. Choose an empty folder for the study.")
    refuse_mismatch(package, dataset)
    seed = secrets.randbits(63) if settings.seed is None else settings.seed
    generator = Random(seed)
    labels = tuple(label.name for label in package.labels if label.name in dataset.labels)
    cases = _drawn(package, dataset, split, settings.cases, generator)
    items = draw_items([case.case_id for case in cases], settings.repeats, generator)
    network, on_node_grid = load_network(package).to(device), is_on_node_grid(dataset, package)

    def segment(volumes: Mapping[Role, Volume]) -> Masks:
        found = predict(volumes, package, network, device, on_node_grid)
        return found[[place for place, label in enumerate(package.labels) if label.name in labels]]

    pictures = out / READERS_FOLDER / PICTURES_FOLDER
    pictures.mkdir(parents=True)
    foci: dict[str, int] = {}
    shown: dict[str, int] = {}
    for number, case in enumerate(cases):
        shown_items = [item for item in items if item.case_id == case.case_id]
        foci[case.case_id], slices = _draw_case(case, shown_items, package, labels, segment, settings.slices, pictures)
        shown |= {item.item_id: slices for item in shown_items}
        report(number + 1, len(cases))
    key = Key(
        study=f"{generator.getrandbits(48):012x}",
        seed=seed,
        model=f"{package.name} {package.version}",
        weights_sha256=package.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
        sequences=tuple(role.value for role in sequences_of(package)),
        items=items,
        foci=foci,
    )
    orders = [reading_order(items, generator) for _ in range(settings.readers)]
    write_file(out / READERS_FOLDER / FORM_FILE, form_page(key.study, key.sequences, labels, shown, orders))
    _set_one_time(out / READERS_FOLDER)
    write_key(key, out)
    return key


def sequences_of(package: ModelPackage) -> tuple[Role, ...]:
    """Return the sequences to show: T1CE, FLAIR and ADC first, then whatever else the package takes."""
    roles = needed_channels(package)
    first = [role for role in _SHOWN_FIRST if role in roles]
    return (*first, *(role for role in roles if role not in first))


def draw_items(case_ids: Sequence[str], repeats: float, generator: Random) -> tuple[Item, ...]:
    """Draw the items in random order: model and manual mask of every case, some of them twice, with random ids."""
    ids: set[str] = set()
    while len(ids) < 4 * len(case_ids):
        ids.add(f"{generator.getrandbits(32):08x}")
    # The order of a set differs from process to process.
    shuffled = sorted(ids)
    generator.shuffle(shuffled)
    free = iter(shuffled)
    first_showings = [Item(next(free), case, source, None) for case in case_ids for source in MaskSource]
    repeated = generator.sample(first_showings, round(repeats * len(first_showings)))
    items = [*first_showings, *(replace(item, item_id=next(free), repeat_of=item.item_id) for item in repeated)]
    generator.shuffle(items)
    return tuple(items)


def _drawn(
    package: ModelPackage, dataset: Dataset, split: Split | None, count: int | None, generator: Random
) -> list[Case]:
    chosen = dataset.cases if split is None else dataset.of(split)
    labels = [label.name for label in package.labels if label.name in dataset.labels]
    manual = [
        case
        for case in chosen
        if list(comparable_labels(case, package)) == labels and set(package.required) <= set(case.channels)
    ]
    if not manual:
        raise DatasetBroken(
            f"{dataset.folder} has no case for {split or 'any split'} in which a person drew every label. "
            "`--split all` takes every split."
        )
    if count is not None and count > len(manual):
        raise DatasetBroken(
            f"{count} cases were requested, and {dataset.folder} has {len(manual)} in which a person drew every label."
        )
    return manual if count is None else generator.sample(manual, count)


def _draw_case(
    case: Case,
    items: Sequence[Item],
    package: ModelPackage,
    labels: tuple[str, ...],
    segment: Callable[[Mapping[Role, Volume]], Masks],
    most: int,
    folder: Path,
) -> tuple[int, int]:
    """Draw the items of a case in the order given, which is random; return its foci and how many slices are shown."""
    volumes = case.volumes(channels_to_read(case, package))
    masks = {MaskSource.MANUAL: case.masks(labels), MaskSource.MODEL: segment(volumes)}
    slices = slices_to_show(tuple(masks.values()), most)
    grid = volumes[case.reference].geometry
    black = Volume(np.full(grid.shape, np.nan, np.float32), grid)
    scene = Scene({role: volumes.get(role, black) for role in sequences_of(package)}, labels, slices)
    write_pictures(scene, [(item.item_id, masks[item.source]) for item in items], folder)
    foci = count_foci(masks[MaskSource.MANUAL], grid.voxel_volume_mm3)
    return foci, len(slices)


def _set_one_time(folder: Path) -> None:
    """Give all files for the readers one modification time: sorted by it, items of one source would stand together."""
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        os.utime(path, (_TIME_OF_ALL, _TIME_OF_ALL))
