"""Convert BraTS cases, and others of that form, to a data set with the regions TC, WT, ET, NCR and RC as labels.

BraTS images are aligned and skull-stripped. A network trained on them alone has never seen a whole head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.labels import Role
from models.training.dataset.brats_files import BratsFiles, find_brats
from models.training.dataset.dataset import same_grid
from models.training.dataset.label_numbers import EXAMPLE, IN_2023, REGIONS, LabelNumbers, TumourPart
from models.training.dataset.manifest import Annotator, DatasetBroken
from models.training.dataset.name_table import CaseSource
from models.training.dataset.nifti import read_nifti
from models.training.dataset.required import ALL_REQUIRED, Required
from models.training.dataset.whole_numbers import whole_numbers
from models.training.dataset.writer import CaseRefused, DatasetWriter, NewCase, SkippedStudy, check_choice
from pipeline.resample import resample
from pipeline.volume import Geometry

CHANNELS = (Role.T2, Role.FLAIR, Role.T1CE)
"""Channels for pretraining in the order of Wan et al. 2024."""
LABELS = ("tumour_core", "whole_tumour", "enhancing_tumour")
_MARGIN_MM = 5.0
"""Empty space kept around the brain, as `pipeline.align` keeps it around the head."""


_NO_NUMBERS = (
    "The name is of no year of BraTS or FeTS, so the meaning of the label numbers is not known: 4 is enhancing tumour "
    f"until 2021, and a resection cavity in sets after treatment. Look it up, and give it as in --numbers {EXAMPLE}."
)


@dataclass(frozen=True, slots=True)
class BratsSettings:
    """Which channels and regions to convert, and the spacing."""

    channels: tuple[Role, ...] = CHANNELS
    regions: tuple[str, ...] = LABELS
    """Of REGIONS; the resection cavity exists since 2024."""
    spacing_mm: float = 1.0
    """Edge of the voxels. BraTS has 1 mm; another value resamples the images."""
    numbers: LabelNumbers | None = None
    """Label numbers of the cases whose name tells none; None refuses these cases."""
    required: Required = ALL_REQUIRED
    """What every case must have; it may lack other channels and regions."""

    def __post_init__(self) -> None:
        check_choice(self.channels, self.regions, self.spacing_mm)
        if unknown := set(self.regions) - set(REGIONS):
            raise ValueError(f"BraTS has no region {sorted(unknown)[0]}; it has TC, WT, ET, NCR and RC")
        if unmeasured := set(self.channels) - {Role.T1, Role.T1CE, Role.T2, Role.FLAIR}:
            raise ValueError(f"BraTS has no {sorted(unmeasured)[0]}; it has T1, T1CE, T2 and FLAIR")
        self.required.check(self.channels, self.regions)
        if self.numbers is None:
            return
        named = self.numbers.regions
        lacking = self.required.lacking(self.regions, named) if set(self.regions) & set(named) else self.regions
        if lacking:
            needed = " and ".join(part for part in TumourPart if part in REGIONS[lacking[0]])
            raise ValueError(
                f"{lacking[0]} is made of {needed}, and --numbers {self.numbers} does not name all of these; name "
                "them, or request other labels"
            )


def convert_brats(
    folder: Path, writer: DatasetWriter, settings: BratsSettings, report: Callable[[int, int], None]
) -> tuple[SkippedStudy, ...]:
    """Write every usable case under `folder` and return the skipped ones, with reasons.

    `report` receives the number of cases done and the number of all cases. Raises DatasetBroken if there are no cases
    or the disk cannot be written.
    """
    found = find_brats(folder)
    if not found:
        raise DatasetBroken(
            f"{folder} holds no BraTS case: no file has a name like BraTS20_Training_001_t1ce.nii.gz or "
            "BraTS-GLI-00000-000-t1c.nii.gz. Give the folder that holds the cases' folders."
        )
    if settings.numbers is None and all(files.told.numbers is None and not files.told.not_glioma for files in found):
        raise DatasetBroken(f"None of the {len(found)} cases, such as {found[0].name}, can be used. {_NO_NUMBERS}")
    skipped: list[SkippedStudy] = []
    for number, files in enumerate(found):
        report(number, len(found))
        try:
            writer.add(_read(files, settings))
        except CaseRefused as exc:
            skipped.append(SkippedStudy(files.name, str(exc)))
    return tuple(skipped)


def _read(files: BratsFiles, settings: BratsSettings) -> NewCase:
    if files.told.not_glioma:
        raise CaseRefused("Its name belongs to another task than adult gliomas (GLI, SSA). Remove it.")
    if files.twins is not None:
        one, other = (path.name for path in files.twins)
        raise CaseRefused(f"It has both {one} and {other}. Keep the one that belongs to it.")
    numbers = _numbers(files, settings)
    regions = {region: numbers.regions[region] for region in settings.regions if region in numbers.regions}
    if lacking := settings.required.lacking(settings.regions, regions):
        raise CaseRefused(
            f"Data of its year have no region {lacking[0]}. Remove the case, do not request the region, or do not "
            "require it (--require)."
        )
    if not regions:
        raise CaseRefused(f"Data of its year have none of {', '.join(settings.regions)}. Request other regions.")
    roles = [role for role in settings.channels if role in files.channels]
    if missing := settings.required.lacking(settings.channels, roles):
        raise CaseRefused(
            f"It has no {' and no '.join(missing)}. Add the file, request other channels, or do not require it "
            "(--require)."
        )
    if not roles:
        raise CaseRefused(f"It has none of {', '.join(settings.channels)}. Add the files.")
    if files.segmentation is None:
        raise CaseRefused("It has no segmentation (_seg or -seg). Add it; training needs one.")
    voxels, grid = _read_volume(files.segmentation)
    labels = whole_numbers(voxels, files.segmentation.name)
    _check_numbers(files, numbers, {int(number) for number in np.unique(labels)})
    channels: dict[Role, NDArray[np.float32]] = {}
    for role in roles:
        voxels, geometry = _read_volume(files.channels[role])
        if not same_grid(geometry, grid):
            raise CaseRefused(f"Its {role} and its segmentation are on different grids. Check the files.")
        if not np.isfinite(voxels).all():
            raise CaseRefused(f"Its {role} holds NaN or infinite values. Check the file.")
        channels[role] = voxels.astype(np.float32)
    masks = {region: np.isin(labels, numbers_of_it) for region, numbers_of_it in regions.items()}
    return _new_case(files, grid, channels, masks, settings.spacing_mm)


def _numbers(files: BratsFiles, settings: BratsSettings) -> LabelNumbers:
    """Return the numbers that the name tells, or those given. Raises CaseRefused if there are none, or two meanings."""
    told, given = files.told.numbers, settings.numbers
    if told is None or given is None:
        numbers = told or given
        if numbers is None:
            raise CaseRefused(_NO_NUMBERS)
        return numbers
    if contradiction := told.contradiction(given):
        number, by_name, by_option = contradiction
        raise CaseRefused(
            f"By its name {number} is {by_name}, and --numbers says {by_option}. Convert it without --numbers, or "
            "rename it if its name is wrong."
        )
    return told.joined(given)


def _check_numbers(files: BratsFiles, numbers: LabelNumbers, found: set[int]) -> None:
    """Raise CaseRefused if a label map holds a number that its year, or --numbers, does not have."""
    unknown = sorted(found - numbers.known)
    if not unknown:
        return
    if 4 in unknown and files.told.numbers is IN_2023:
        raise CaseRefused(
            "Its name is one of 2023, which has no 4, and its segmentation has a 4: enhancing tumour until 2021, a "
            "cavity since 2024. Rename an older case with underscores (BraTS2021_00000_seg.nii.gz), and give one after "
            "treatment a time point of 100 or more (BraTS-GLI-00000-100-seg.nii.gz)."
        )
    known = ", ".join(str(number) for number in sorted(numbers.known))
    if files.told.numbers is None:
        raise CaseRefused(
            f"Its segmentation holds {unknown[0]}, which --numbers {numbers} does not name. Look up what it means, "
            "and name it too."
        )
    raise CaseRefused(
        f"Its segmentation holds {unknown[0]}, which is no label number of its year ({known}). Check the origin of "
        "the file."
    )


def _new_case(
    files: BratsFiles,
    grid: Geometry,
    channels: Mapping[Role, NDArray[np.float32]],
    masks: Mapping[str, NDArray[np.bool_]],
    spacing_mm: float,
) -> NewCase:
    box = _box(channels, grid)
    grid = grid.cropped(box)
    channels = {role: np.ascontiguousarray(voxels[box]) for role, voxels in channels.items()}
    masks = {region: np.ascontiguousarray(mask[box]) for region, mask in masks.items()}
    if max(abs(spacing - spacing_mm) for spacing in grid.spacing_mm) > 1e-3:
        target = _with_spacing(grid, spacing_mm)
        channels = {role: _resampled(voxels, grid, target) for role, voxels in channels.items()}
        masks = {region: _resampled(mask, grid, target) >= 0.5 for region, mask in masks.items()}
        grid = target
    annotators = dict.fromkeys(masks, Annotator.PERSON)
    source = CaseSource(files.name, files.folder, public=files.told.numbers is not None)
    return NewCase(f"brats {files.patient}", f"brats {files.name}", grid, channels, masks, annotators, source)


def _read_volume(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read voxels and grid with axes in the order and direction of `Geometry.axial`. Raises CaseRefused."""
    try:
        voxels, geometry = read_nifti(path)
    except OSError as exc:
        raise CaseRefused(f"{exc}. Download it again.") from exc
    directions = geometry.affine[:3, :3] / geometry.spacing_mm
    axes = [int(np.argmax(np.abs(directions[world]))) for world in (2, 1, 0)]  # z by slices, y by rows, x by columns
    if sorted(axes) != [0, 1, 2] or np.abs(np.abs(directions).max(axis=0) - 1).max() > 1e-3:
        raise CaseRefused(f"{path.name} is oblique, unlike all BraTS images. Check the file.")
    affine = geometry.affine[:, [*axes, 3]]
    voxels = voxels.transpose(axes)
    for axis, world in enumerate((2, 1, 0)):
        if affine[world, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    return np.ascontiguousarray(voxels), Geometry.from_affine(affine, voxels.shape, "")


def _box(channels: Mapping[Role, NDArray[np.float32]], grid: Geometry) -> tuple[slice, slice, slice]:
    """Return the bounding box of all non-zero voxels, with a margin. Raises CaseRefused if there are none."""
    inside = np.logical_or.reduce([voxels != 0 for voxels in channels.values()])
    sides = []
    for axis, spacing in enumerate(grid.spacing_mm):
        planes = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if not planes.size:
            raise CaseRefused("Its images are 0 everywhere. Download the files again.")
        margin = round(_MARGIN_MM / spacing)
        sides.append(slice(max(0, int(planes[0]) - margin), min(inside.shape[axis], int(planes[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


def _with_spacing(grid: Geometry, spacing_mm: float) -> Geometry:
    sizes = [round(size * edge / spacing_mm) for size, edge in zip(grid.shape, grid.spacing_mm, strict=True)]
    return Geometry.axial((sizes[0], sizes[1], sizes[2]), (spacing_mm,) * 3, grid.centre_mm, "")


def _resampled(
    voxels: NDArray[np.float32] | NDArray[np.bool_], grid: Geometry, target: Geometry
) -> NDArray[np.float32]:
    values = resample(torch.from_numpy(voxels.astype(np.float32))[None], grid, target)[0].numpy()
    # BraTS is 0 outside of the brain; keep it so.
    return np.asarray(np.nan_to_num(values, nan=0.0), np.float32)
