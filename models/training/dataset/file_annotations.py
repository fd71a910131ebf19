"""Read annotations from 3D Slicer's .seg.nrrd files and from label maps in NRRD or NIfTI."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from models.labels import PAPER_LABELS, Role
from models.training.dataset.annotation import Annotation, LabelNames
from models.training.dataset.manifest import Annotator
from models.training.dataset.nifti import read_nifti
from models.training.dataset.whole_numbers import are_whole, whole_numbers
from models.training.dataset.writer import CaseRefused
from pipeline.volume import Geometry

SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz")
_MOST_NUMBERS = 16
"""A file with more distinct values is taken for an image."""


class LabelMapValues(StrEnum):
    """Meaning of the numbers in a label map."""

    NUMBERS = "numbers"
    """A voxel holds the number of one label."""
    BITS = "bits"
    """A voxel holds the sum of 1, 2, 4 for the first, second and third label, as `glionode phantom` writes them."""


def read_file(path: Path, names: LabelNames, values: LabelMapValues) -> tuple[Annotation, ...] | None:
    """Return an annotation for every label in a file; None if the file is an image or a brain mask.

    Raises CaseRefused if the file is damaged, its labels are unknown, or it is named like a mask and has fractions.
    """
    if path.name.lower().endswith(".seg.nrrd"):
        return _read_slicer(path, names)
    stored, geometry = _read(path)
    if not np.issubdtype(stored.dtype, np.number) or _is_image(stored, path.name, names):
        return None
    voxels = whole_numbers(stored, path.name)
    numbers = np.unique(voxels)
    if numbers.min() < 0:
        raise CaseRefused(f"{path.name} holds {numbers.min()}, which is no label's number. Check its numbers.")
    found = [int(number) for number in numbers if number > 0]
    if _is_binary(found) and names.is_brain_mask(path.name):
        return None
    if values is LabelMapValues.BITS:
        if found and max(found) >= 2 ** len(PAPER_LABELS):
            raise CaseRefused(f"{path.name} holds {max(found)}, which is no sum of 1, 2 and 4. Check its numbers.")
        masks = {label.name: (voxels >> place) & 1 > 0 for place, label in enumerate(PAPER_LABELS)}
        defined = names.label_of_file(path.name)
        # truth_adc.nii.gz holds all labels; only the one defined on ADC counts.
        return _annotations(path, geometry, {defined: masks[defined]} if defined else masks, names)
    presumed = len(found) > 1 and not set(map(str, found)) & set(names.site_names)
    return _annotations(path, geometry, _by_number(path, voxels, found, names), names, presumed)


def _is_image(voxels: NDArray[Any], name: str, names: LabelNames) -> bool:
    """Return whether a file is no label map: more values than labels, or fractions and negatives without a mask's name.

    A file of few values that are no whole numbers is a damaged label map, since no image has so few.
    """
    finite = voxels[np.isfinite(voxels)]
    values = np.unique(finite)
    whole = finite.size == voxels.size and are_whole(values)
    if whole and len(np.unique(np.rint(values))) > _MOST_NUMBERS:
        return True
    is_mask = names.names_a_mask(name) and not names.is_brain_mask(name)
    return not is_mask and (len(values) > _MOST_NUMBERS or bool((values < -0.5).any()))


def _by_number(
    path: Path, voxels: NDArray[np.int32], found: list[int], names: LabelNames
) -> dict[str, NDArray[np.bool_]]:
    named = names.label_of_file(path.name)
    if named is not None and _is_binary(found):
        return {named: voxels > 0}
    if found and _is_binary(found) and str(found[0]) not in names.site_names:
        # In a map of several labels 1 is enhancing tumour; in a binary mask it may be anything.
        raise CaseRefused(
            f"{path.name} holds only the number {found[0]}, and its name tells no label. Name it after the label, give "
            f"--map {found[0]}=LABEL, or remove it."
        )
    labels = {number: names.label_of_number(number) for number in found}
    if unknown := [number for number, label in labels.items() if label is None]:
        raise CaseRefused(
            f"{path.name} holds {unknown[0]}, which is no label's number. Give --map {unknown[0]}=LABEL, or "
            "--values bits if the numbers are sums of 1, 2 and 4."
        )
    if not labels:
        raise CaseRefused(f"{path.name} is empty, and its name tells no label. Name it after the label.")
    masks: dict[str, NDArray[np.bool_]] = {}
    for number, label in labels.items():
        assert label is not None
        masks[label] = masks.get(label, False) | (voxels == number)
    return masks


def _is_binary(found: list[int]) -> bool:
    """Return whether the numbers above 0 are those of a binary mask; an empty mask has none."""
    return not found or found in ([1], [255])


def _read_slicer(path: Path, names: LabelNames) -> tuple[Annotation, ...]:
    """Read segments by Segment<n>_Name, _LabelValue and _Layer; a layer is a component of the voxels."""
    image = _itk(path)
    layers = sitk.GetArrayFromImage(image)
    if layers.ndim == 3:
        layers = layers[..., None]
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    masks: dict[str, NDArray[np.bool_]] = {}
    segments = 0
    while f"Segment{segments}_ID" in fields or f"Segment{segments}_Name" in fields:
        prefix = f"Segment{segments}_"
        segments += 1
        name, identity = fields.get(f"{prefix}Name", ""), fields.get(f"{prefix}ID", "")
        label = names.label_of_name(name, identity)
        try:
            layer, value = int(fields.get(f"{prefix}Layer", "0")), int(fields.get(f"{prefix}LabelValue", "1"))
            mask = layers[..., layer] == value
        except (ValueError, IndexError) as exc:
            raise CaseRefused(f"{path.name} describes a segment that it does not contain. Save it again.") from exc
        if label is not None:
            masks[label] = masks.get(label, False) | mask
    if not segments:
        raise CaseRefused(f"{path.name} contains no segment. Save it from 3D Slicer as a segmentation.")
    return _annotations(path, _geometry(image), masks, names)


def _annotations(
    path: Path, geometry: Geometry, masks: dict[str, NDArray[np.bool_]], names: LabelNames, presumed: bool = False
) -> tuple[Annotation, ...]:
    words = path.name.upper().replace("-", "_").replace(".", "_").split("_")
    hints = [role for role in Role if role in words]
    return tuple(
        Annotation(
            label=label,
            parts=((mask, geometry),),
            annotator=Annotator.PERSON,
            annotated_at="",
            series_instance_uid="",
            where=path.name,
            role_hint=hints[0] if len(hints) == 1 else None,
            presumed=presumed,
        )
        for label, mask in sorted(masks.items())
    )


def _read(path: Path) -> tuple[NDArray[Any], Geometry]:
    if path.name.lower().endswith((".nii", ".nii.gz")):
        try:
            return read_nifti(path)
        except OSError as exc:
            raise CaseRefused(f"{exc}. Save it again, or remove it.") from exc
    image = _itk(path)
    voxels = sitk.GetArrayFromImage(image)
    if voxels.ndim != 3:
        raise CaseRefused(f"{path.name} has several values per voxel. Save it as a label map or as .seg.nrrd.")
    return voxels, _geometry(image)


def _itk(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as exc:
        raise CaseRefused(f"{path.name} is no readable NRRD or MetaImage file. Save it again, or remove it.") from exc


def _geometry(image: sitk.Image) -> Geometry:
    """Return the grid of a SimpleITK image, whose world is LPS and whose axes are (column, row, slice)."""
    if image.GetDimension() != 3:
        raise CaseRefused("A label map does not have three dimensions. Save it as a volume.")
    columns, rows, slices = image.GetSize()
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return Geometry.from_affine(affine, (slices, rows, columns), "")
