"""Real series of seven vendors: the same affine and voxels as Debian's dcm2niix, or refused by the right name."""

import subprocess
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.labels import Role
from pipeline.errors import SeriesUnreadable
from pipeline.read import read_volume
from pipeline.scan import scan
from pipeline.volume import Volume

# Folder under real/, then what becomes of its series: the volume's shape, or the name of the refusal.
TABLE: dict[str, tuple[tuple[int, int, int] | str, ...]] = {
    "ImagingDataCommons_highdicom/seg_sr": ("TooFewSlices", "TooFewSlices"),  # two CT headers at one place, SEG
    "QIICR_dcmqi/GE_ADC_one_slice": ("TooFewSlices",),
    "QIICR_dcmqi/seg": ("TooFewSlices", "TooFewSlices", (3, 38, 24), (3, 38, 24)),
    "QIICR_dcmqi/sr_tid1500": ("TooFewSlices", "TooFewSlices", "TooFewSlices"),
    "icometrix_dicom2nifti/failing_gantrytilting_001": ("GantryShear",),
    "icometrix_dicom2nifti/failing_slicecount_001": ((2, 256, 256),),
    "icometrix_dicom2nifti/failing_sliceincrement_001": ("SlicesMissing",),
    "icometrix_dicom2nifti/ge_anatomical_001": ((4, 256, 256),),
    "icometrix_dicom2nifti/ge_dti_001": ((4, 128, 128),),
    "icometrix_dicom2nifti/generic_compressed_001": ((4, 256, 256),),
    "icometrix_dicom2nifti/generic_compressed_j2k_001": ((4, 256, 256),),
    "icometrix_dicom2nifti/generic_compressed_rle_001": ((4, 256, 256),),
    "icometrix_dicom2nifti/hyperfine_anatomical_001": ((8, 138, 112),),
    "icometrix_dicom2nifti/philips_anatomical_001": ((4, 240, 240),),
    "icometrix_dicom2nifti/philips_dti_001": ((2, 128, 128),),
    "icometrix_dicom2nifti/philips_enhanced_anatomical_001": ((8, 256, 256),),
    "icometrix_dicom2nifti/philips_enhanced_dti_001": ((8, 128, 128),),
    "icometrix_dicom2nifti/siemens_anatomical_001": ((4, 256, 256),),
    "jonclayden_divest/raw": ("TooFewSlices", (2, 256, 224)),  # one slice in two directions, by its CSA header
    "neurolabusc_dcm_qa_cs_dl/401_T1W_FFE_enhanced": ((24, 256, 256),),
    "neurolabusc_dcm_qa_cs_dl/501_T1W_FFE_classic": ((24, 256, 256),),
    "neurolabusc_dcm_qa_ge/01_Ax_DWI_TENSOR_R2": ((2, 256, 256),),
    "neurolabusc_dcm_qa_nih/Siemens_mr_0003_mosaic": ("MosaicImages",),
    "neurolabusc_dcm_qa_philips_dwi/DTI_b0_volume": ((32, 112, 112),),
    "neurolabusc_dcm_qa_philips_dwi/DTI_b1000_volume": ((32, 112, 112),),
    "neurolabusc_dcm_qa_philips_dwi/private_sop_classes": ("TooFewSlices",) * 3,
    "neurolabusc_dcm_qa_sag/XA30_classic_5001": ((63, 86, 86),),
    "neurolabusc_dcm_qa_sag/XA30_enhanced_5": ((63, 86, 86),),
    "neurolabusc_dcm_qa_toshiba/7006_DTI_ortho_first20": ((20, 64, 64),),
    "nipy_heudiconv/01-anat-scout": ("TooFewSlices",),
    "nipy_heudiconv/Phoenix": ("TooFewSlices", "TooFewSlices"),
    "nipy_heudiconv/fmap": ("TooFewSlices",),
    "pydicom_pydicom-data/enhanced_mr": ("PlaceUnknown",),  # its header has no pixel spacing
    "pydicom_pydicom-data/seg_liver": ("TooFewSlices",) * 3,
    "pydicom_pydicom-data/siemens_mpr": ("TooFewSlices",),
}
JPEG_LS = "icometrix_dicom2nifti/generic_compressed_jpegls_001"
"""Debian's dcm2niix cannot decode it; the same images lie beside it in JPEG 2000."""


@pytest.mark.parametrize("name", TABLE)
def test_table(shared_data, program, tmp_path, name):
    outcomes: list[tuple[int, ...] | str] = []
    for study in scan([shared_data / "real" / name]).studies:
        for series in study.series:
            try:
                volume = read_volume(series, Role.T1)
            except SeriesUnreadable as exc:
                outcomes.append(type(exc).__name__)
                continue
            outcomes.append(volume.geometry.shape)
            folder = tmp_path / str(len(outcomes))
            folder.mkdir()
            for number, instance in enumerate(series.instances):
                (folder / f"{number}.dcm").symlink_to(instance.path)
            assert_one_agrees(volume, converted(program("dcm2niix"), folder))
    assert sorted(map(str, outcomes)) == sorted(map(str, TABLE[name]))


def test_jpeg_ls_against_its_twin(shared_data):
    first, second = (
        read_volume(scan([shared_data / "real" / name]).studies[0].series[0], Role.T1)
        for name in (JPEG_LS, "icometrix_dicom2nifti/generic_compressed_j2k_001")
    )
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_the_table_is_complete(shared_data):
    real = shared_data / "real"
    folders = {path.parent.relative_to(real).as_posix() for path in real.rglob("*") if path.is_file()}
    assert {folder for folder in folders if "/" in folder} == {*TABLE, JPEG_LS}


def test_the_semireal_study(shared_data, program, tmp_path):
    for number, series in enumerate(scan([shared_data / "semireal" / "siemens-unifocal" / "dicom"]).studies[0].series):
        folder = tmp_path / str(number)
        folder.mkdir()
        for instance in series.instances:
            (folder / f"{instance.sop_instance_uid}.dcm").symlink_to(instance.path)
        assert_one_agrees(read_volume(series, Role.T1), converted(program("dcm2niix"), folder))


def converted(dcm2niix: str, folder: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Volumes with their affines, RAS, as dcm2niix writes them: merged series, displayed values, no side files."""
    out = folder / "out"
    out.mkdir()
    options = ["-z", "n", "-b", "n", "-p", "n", "-m", "y", "-o", str(out)]
    subprocess.run([dcm2niix, *options, str(folder)], check=True, capture_output=True)
    found = []
    for path in sorted(out.glob("*.nii")):
        values, affine = read_nifti(path)
        stack = values.reshape(*values.shape[:3], -1)
        found += [(stack[..., number], affine) for number in range(stack.shape[3])]
    return found


def assert_one_agrees(volume: Volume, others: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """One of dcm2niix's volumes has our affine and our voxels, each brought to the same order of axes."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    ours, our_affine = canonical(volume.pixels.transpose(2, 1, 0), to_ras @ volume.geometry.affine[:, [2, 1, 0, 3]])
    brought = [canonical(values, affine) for values, affine in others]
    same = [(values, affine) for values, affine in brought if values.shape == ours.shape]
    assert same, [values.shape for values, _ in brought]
    values, affine = min(same, key=lambda one: float(np.abs(one[0] - ours).max()))
    np.testing.assert_allclose(affine, our_affine, atol=1e-3)
    np.testing.assert_allclose(ours, values, rtol=1e-6, atol=1e-4)


def canonical(
    values: NDArray[np.float64], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same volume with axes along world x, y, z."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = max(permutations(range(3)), key=lambda one: sum(abs(directions[row, one[row]]) for row in range(3)))
    values, affine = values.transpose(order), affine[:, [*order, 3]].copy()
    for axis in range(3):
        if affine[axis, axis] < 0:
            values = np.flip(values, axis)
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
    return values, affine


def read_nifti(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and affine of an uncompressed NIfTI-1 file (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h)."""
    content = path.read_bytes()
    dimensions = np.frombuffer(content[40:56], "<i2")
    shape = tuple(int(size) for size in dimensions[1 : 1 + dimensions[0]])
    kinds = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "<i1", 512: "<u2", 768: "<u4"}
    kind = kinds[int(np.frombuffer(content[70:72], "<i2")[0])]
    offset, slope, intercept = np.frombuffer(content[108:120], "<f4")
    values = np.frombuffer(content, kind, int(np.prod(shape)), int(offset)).reshape(shape, order="F").astype(float)
    affine = np.eye(4)
    affine[:3] = np.frombuffer(content[280:328], "<f4").reshape(3, 4)
    return values * (float(slope) or 1.0) + float(intercept), affine
