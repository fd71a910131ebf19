"""Copies of a study look like another study, and keep everything but their UIDs."""

from benchmarks.studies import UIDS, copies
from tests.support.node import make_instance, new_study_uid


def test_copies_have_uids_of_their_own_that_belong_together() -> None:
    study = new_study_uid()
    images = {name: make_instance(study, number=number) for number, name in enumerate("ab", 1)}
    for image in images.values():
        image.FrameOfReferenceUID = f"{study}.9"
    first, again, second = copies(images, 1), copies(images, 1), copies(images, 2)
    for keyword in UIDS:
        values = {each[keyword].value for made in (images, first, second) for each in made.values()}
        assert len(values) == (6 if keyword == "SOPInstanceUID" else 3)
        assert [each[keyword].value for each in first.values()] == [each[keyword].value for each in again.values()]
    for name, image in images.items():
        assert image.StudyInstanceUID == study
        assert first[name].file_meta.MediaStorageSOPInstanceUID == first[name].SOPInstanceUID
        assert (first[name].PixelData, first[name].InstanceNumber) == (image.PixelData, image.InstanceNumber)
