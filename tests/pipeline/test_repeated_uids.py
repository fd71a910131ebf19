"""A SOP Instance UID of the chosen series stands for one image."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from models.labels import Role
from pipeline.errors import InstanceUidsRepeated
from pipeline.read import read_volume
from pipeline.repeated_uids import check_instance_uids, shared_uid_remarks
from pipeline.scan import scan
from pipeline.volume import Geometry


@pytest.fixture
def grid() -> Geometry:
    return Geometry.axial((4, 4, 4), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), "1.2.3")


def with_uids_of(make, grid, name, uids):
    """Write a series whose first images have the given UIDs."""

    def change(header, number):
        if number < len(uids):
            header.SOPInstanceUID = uids[number]

    return make.classic(grid, name, change=change)


def study_in(make):
    (study,) = scan([make.folder]).studies
    return study, {each.description: each for each in study.series}


def test_two_chosen_series_with_common_uids_are_refused_in_one_sentence(make, grid):
    paths = make.classic(grid, "flair")
    with_uids_of(make, grid, "adc", [dcmread(path).SOPInstanceUID for path in paths[:3]])
    _, series = study_in(make)
    with pytest.raises(InstanceUidsRepeated) as caught:
        check_instance_uids({Role.FLAIR: series["flair"], Role.ADC: series["adc"]})
    said = str(caught.value)
    for name, role in (("flair", "FLAIR"), ("adc", "ADC")):
        assert f"{series[name].series_instance_uid} ({role})" in said
    assert "have 3 SOP Instance UIDs in common" in said


def test_common_uids_with_a_series_that_is_not_used_are_told(make, grid):
    paths = make.classic(grid, "flair")
    with_uids_of(make, grid, "copied", [dcmread(path).SOPInstanceUID for path in paths[:2]])
    make.classic(grid, "t1ce")
    study, series = study_in(make)
    chosen = {Role.T1CE: series["t1ce"], Role.FLAIR: series["flair"]}
    check_instance_uids(chosen)
    (remark,) = shared_uid_remarks(study, chosen)
    assert remark.text.startswith("2 SOP Instance UIDs of FLAIR")
    assert remark.roles == (Role.FLAIR,)


def test_one_series_for_two_roles_is_no_repetition(make, grid):
    make.classic(grid, "dwi")
    _, series = study_in(make)
    check_instance_uids({Role.ADC: series["dwi"], Role.DWI: series["dwi"]})


def copy_of(path: Path, change) -> Path:
    header = dcmread(path)
    change(header)
    copy = path.with_name(f"copy-{path.name}")
    header.save_as(copy)
    return copy


def other_pixels(header):
    header.PixelData = bytes(len(header.PixelData))


def other_position(header):
    header.ImagePositionPatient[2] += 1


def other_scale(header):
    header.RescaleSlope, header.RescaleIntercept = 2, 0


@pytest.mark.parametrize("change", [other_pixels, other_position, other_scale])
def test_one_uid_on_two_images_of_a_series_is_refused(change, make, grid):
    paths = make.classic(grid, "t1ce")
    copy_of(paths[1], change)
    _, series = study_in(make)
    with pytest.raises(InstanceUidsRepeated, match="different contents") as caught:
        check_instance_uids({Role.T1CE: series["t1ce"]})
    assert dcmread(paths[1]).SOPInstanceUID in str(caught.value)
    assert series["t1ce"].series_instance_uid in str(caught.value)


def other_tag(header):
    header.StationName = "ROUTER"


def compressed(header):
    header.compress(RLELossless, generate_instance_uid=False)


@pytest.mark.parametrize("change", [other_tag, compressed])
def test_one_image_in_two_encodings_is_one(change, make, grid):
    paths = make.classic(grid, "t1ce")
    copy_of(paths[1], change)
    _, series = study_in(make)
    assert sum(bool(each.copies) for each in series["t1ce"].instances) == 1
    check_instance_uids({Role.T1CE: series["t1ce"]})
    assert np.isfinite(read_volume(series["t1ce"], Role.T1CE).pixels).all()


def test_equal_files_are_not_compared_again(make, grid):
    paths = make.classic(grid, "t1ce")
    paths[0].with_name("again.dcm").write_bytes(paths[0].read_bytes())
    _, series = study_in(make)
    assert not any(each.copies for each in series["t1ce"].instances)
