"""Series of real scanners: encoded on their own slices, read back by other programs."""

import subprocess

import highdicom as hd
import numpy as np
import pytest

from dicom_seg.check import check
from dicom_seg.encode import Outputs, encode
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.read import read_volume
from pipeline.result import LabelMeasurement, ModelIdentity, SegmentationResult, SourceSeries
from pipeline.scan import scan

SERIES = [
    "icometrix_dicom2nifti/ge_anatomical_001",
    "icometrix_dicom2nifti/philips_enhanced_anatomical_001",
    "neurolabusc_dcm_qa_cs_dl/501_T1W_FFE_classic",
    "neurolabusc_dcm_qa_sag/XA30_classic_5001",
    "neurolabusc_dcm_qa_sag/XA30_enhanced_5",
    "neurolabusc_dcm_qa_toshiba/7006_DTI_ortho_first20",
]


@pytest.mark.parametrize("folder", SERIES)
# Anonymised headers are full of malformed values, about which pydicom warns.
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_series(folder, shared_data, started, program, tmp_path):
    (study,) = scan([shared_data / "real" / folder]).studies
    (series,) = study.series
    volume = read_volume(series, Role.T1CE)
    source = SourceSeries(Role.T1CE, series, volume.geometry, volume.frames, ())
    masks = np.random.default_rng(1).random((3, *volume.geometry.shape)) < 0.05
    result = SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=(source,),
        alignments=(),
        masks=masks,
        measurements=tuple(
            LabelMeasurement(label, float(mask.sum()) * volume.geometry.voxel_volume_mm3 / 1000, 2, None)
            for label, mask in zip(PAPER_LABELS, masks, strict=True)
        ),
        model=ModelIdentity("phantom-demo", "0.1.0", "ab" * 32, IntendedUse.RESEARCH),
        device="cpu",
    )
    objects = encode(result, started, Outputs())
    assert check(objects, result) == ()
    for encoded in objects:
        path = tmp_path / encoded.file_name
        write_dicom(encoded.dataset, path)
        done = subprocess.run([program("dciodvfy"), path], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
    # In world coordinates, so that the comparison does not depend on the references that `check` verified.
    seg = hd.seg.segread(tmp_path / "seg-t1ce.dcm").get_volume(combine_segments=False, rescale_fractional=False)
    grid = hd.Volume.from_components(
        np.moveaxis(masks, 0, -1).astype(np.uint8),
        position=volume.geometry.origin_mm,
        direction=(volume.geometry.affine[:3, :3] / volume.geometry.spacing_mm),
        spacing=volume.geometry.spacing_mm,
        coordinate_system="PATIENT",
        channels={"SegmentNumber": [1, 2, 3]},
    )
    # highdicom stacks slices the other way round; 0.1 mm is what scanners round positions to.
    assert np.array_equal(seg.match_geometry(grid, tol=0.1).array, grid.array)
