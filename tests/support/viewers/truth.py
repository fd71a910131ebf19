"""Make the segmentation result of a perfect model from the truth of a phantom study."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.alignment import RoleAlignment, as_matrix
from pipeline.choose import Selected, choose
from pipeline.diameters import lesion_diameters
from pipeline.measure import measure
from pipeline.panels import panels
from pipeline.read import read_volume
from pipeline.result import MasksOnSeries, ModelIdentity, SegmentationResult, SourceSeries
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Geometry

ROLES = (Role.T1CE, Role.FLAIR, Role.ADC)
_PICTURES = 4


def true_result(phantom: Path) -> SegmentationResult:
    """Return the true result for a folder of `glionode phantom`, with masks on T1CE, FLAIR and ADC."""
    (study,) = scan([phantom / "dicom"]).studies
    selected = choose(study, ROLES, load_rules())
    assert isinstance(selected, Selected)
    volumes = {role: read_volume(selected.series(role), role) for role in ROLES}
    on = {role: _masks(phantom / f"truth_{role.lower()}.nii.gz", volumes[role].geometry) for role in ROLES}
    masks, geometry = on[Role.T1CE], volumes[Role.T1CE].geometry
    alignments = tuple(_motion(phantom / "truth.json", role) for role in (Role.FLAIR, Role.ADC))
    return SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=tuple(
            SourceSeries(each.role, each.series, volumes[each.role].geometry, volumes[each.role].frames, each.why)
            for each in selected.choices
        ),
        alignments=alignments,
        masks=masks,
        measurements=measure(masks, geometry, (on[Role.ADC], volumes[Role.ADC])),
        model=ModelIdentity("truth-of-phantom", "1.0.0", "ab" * 32, IntendedUse.DEMONSTRATION),
        device="none",
        native=tuple(
            MasksOnSeries(label.defined_on, (label,), on[label.defined_on][[PAPER_LABELS.index(label)]])
            for label in (FLAIR_HYPERINTENSITY, ADC_ABNORMALITY)
        ),
        diameters=lesion_diameters(masks[PAPER_LABELS.index(ENHANCING_TUMOUR)], geometry),
        panels=panels(volumes, masks, alignments, most=_PICTURES),
    )


def _masks(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    """Return (labels, slices, rows, columns): the bit masks of a NIfTI file on the grid that was read from DICOM.

    Both have the same voxels, perhaps in another order of slices, so the nearest voxel is the voxel itself.
    """
    grid = sitk.GetImageFromArray(np.zeros(geometry.shape, np.uint8))
    slices, rows, columns = geometry.spacing_mm
    grid.SetOrigin(geometry.origin_mm)
    grid.SetSpacing((columns, rows, slices))
    grid.SetDirection((geometry.affine[:3, [2, 1, 0]] / (columns, rows, slices)).ravel().tolist())
    bits = sitk.ReadImage(str(path))
    on_grid = sitk.GetArrayFromImage(sitk.Resample(bits, grid, sitk.Transform(), sitk.sitkNearestNeighbor))
    assert np.bincount(on_grid.ravel()).tolist() == np.bincount(sitk.GetArrayFromImage(bits).ravel()).tolist()
    return np.stack([(on_grid >> (label.number - 1)) & 1 == 1 for label in PAPER_LABELS])


def _motion(path: Path, role: Role) -> RoleAlignment:
    """Return the known motion of the patient between T1CE and this series, so that nothing is aligned."""
    *angles, x, y, z = json.loads(path.read_text())[f"motion_{role.lower()}"]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()  # about x, then y, then z of the patient
    matrix[:3, 3] = x, y, z
    rotation = tuple(np.degrees(angles).tolist())
    return RoleAlignment(role, True, rotation, (x, y, z), as_matrix(matrix), "the phantom's own motion")
