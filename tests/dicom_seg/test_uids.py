import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import UID

from dicom_seg import finalise
from dicom_seg.encode import encode
from dicom_seg.uids import derive_uid, device_uid, images_sha256, lesion_tracking_uid, result_uid, tracking_uid
from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR
from pipeline.volume import Frame


def test_equal_parts_give_equal_valid_uids():
    assert derive_uid("a", "b") == derive_uid("a", "b")
    assert derive_uid("a", "b") != derive_uid("ab")
    assert UID(derive_uid("a")).is_valid
    assert derive_uid("a").startswith("2.25.")


def test_result_uid_changes_with_study_images_model_package_software_and_purpose(make_result, monkeypatch):
    result = make_result()
    uid = result_uid(result, "x")
    assert uid == result_uid(replace(result, sources=result.sources[::-1]), "x")
    other_frames = (Frame("1.2", "1.2.3", 1), *result.sources[0].frames[1:])
    changed = [
        result_uid(result, "y"),
        result_uid(replace(result, study_instance_uid="1.2.3"), "x"),
        result_uid(replace(result, model=replace(result.model, sha256="cd" * 32)), "x"),
        result_uid(replace(result, model=replace(result.model, package_sha256="cd" * 32)), "x"),
        result_uid(
            replace(result, sources=(replace(result.sources[0], frames=other_frames), *result.sources[1:])), "x"
        ),
    ]
    monkeypatch.setattr("dicom_seg.uids.software_version", lambda: "99")
    assert len({uid, *changed, result_uid(result, "x")}) == 7


def test_tracking_uid_does_not_depend_on_the_images(make_result):
    result = make_result()
    assert tracking_uid(result, ENHANCING_TUMOUR) == tracking_uid(with_other_frames(result), ENHANCING_TUMOUR)
    assert tracking_uid(result, ENHANCING_TUMOUR) != tracking_uid(result, ADC_ABNORMALITY)


def test_another_model_is_another_device(make_result):
    model = make_result().model
    assert device_uid(model) == device_uid(replace(model, name="same weights"))
    assert device_uid(model) != device_uid(replace(model, sha256="cd" * 32))
    assert device_uid(model) != device_uid(replace(model, package_sha256="cd" * 32)), "other thresholds"


def patient(result, **values):
    """Return the result with another patient in the scanned headers of all images."""
    sources = []
    for source in result.sources:
        instances = tuple(
            replace(each, patient=replace(each.patient, **values), demographics_sha256=repr(values))
            for each in source.series.instances
        )
        sources.append(replace(source, series=replace(source.series, instances=instances)))
    return replace(result, sources=tuple(sources))


@pytest.mark.parametrize("other", [{"patient_id": "other"}, {"issuer": "other"}, {"issuer_id": "1.2"}])
def test_the_same_images_of_another_patient_have_other_uids(other, make_result):
    result = make_result()
    changed = patient(result, **other)
    assert images_sha256(result.sources) != images_sha256(changed.sources)
    assert result_uid(result, "x") != result_uid(changed, "x")
    assert tracking_uid(result, ENHANCING_TUMOUR) != tracking_uid(changed, ENHANCING_TUMOUR)
    assert lesion_tracking_uid(result, ENHANCING_TUMOUR, 1) != lesion_tracking_uid(changed, ENHANCING_TUMOUR, 1)


def test_images_of_another_series_are_other_images(make_result):
    result = make_result()
    frames = tuple(replace(each, series_instance_uid="1.2.3") for each in result.sources[0].frames)
    moved = (replace(result.sources[0], frames=frames), *result.sources[1:])
    assert images_sha256(result.sources) != images_sha256(moved)


def uids(objects):
    return [(str(each.dataset.SOPInstanceUID), str(each.dataset.SeriesInstanceUID)) for each in objects]


def test_a_retry_has_the_same_bytes_and_an_analysis_that_began_later_has_no_uid_of_them(
    make_result, with_everything, started
):
    result = with_everything(make_result())
    first, retry = encode(result, started), encode(result, started)
    assert [hashlib.sha256(each.content).hexdigest() for each in first] == [
        hashlib.sha256(each.content).hexdigest() for each in retry
    ]
    later = encode(result, started + timedelta(microseconds=1))
    assert {uid for each in uids(first) for uid in each}.isdisjoint(uid for each in uids(later) for uid in each)


def test_what_another_library_writes_into_the_file_meta_is_another_content(make_result, started, monkeypatch):
    result = make_result()
    before = encode(result, started)
    complete = finalise._completed

    def complete_by_another(dataset, source):
        completed = complete(dataset, source)
        completed.file_meta.ImplementationVersionName = "ANOTHER"
        return completed

    monkeypatch.setattr(finalise, "_completed", complete_by_another)
    for one, other in zip(before, encode(result, started), strict=True):
        assert one.content != other.content
        assert one.dataset.SOPInstanceUID != other.dataset.SOPInstanceUID


def another_patient_in_the_files(result):
    for source in result.sources:
        for instance in source.series.instances:
            header = dcmread(instance.path)
            header.PatientName = "Corrected^Name"
            dcmwrite(instance.path, header)
    return result


def another_voxel(result):
    masks = result.masks.copy()
    masks[:, 3, 5, 5] ^= True
    return replace(result, masks=masks, native=tuple(replace(each, masks=~each.masks) for each in result.native))


def another_number(result):
    return replace(result, series_numbers_from=8010)


def another_version(result):
    return replace(result, model=replace(result.model, version="0.1.1"))


def another_threshold(result):
    return replace(result, model=replace(result.model, package_sha256="cd" * 32))


@pytest.mark.parametrize(
    "change", [another_patient_in_the_files, another_voxel, another_number, another_version, another_threshold]
)
def test_whatever_changes_an_object_gives_it_another_uid(change, make_result, with_everything, started):
    result = with_everything(make_result())
    before = encode(result, started)
    after = encode(change(result), started)
    for one, other in zip(before, after, strict=True):
        same_bytes = one.content == other.content
        assert (one.dataset.SOPInstanceUID == other.dataset.SOPInstanceUID) == same_bytes
    assert before[0].dataset.SOPInstanceUID != after[0].dataset.SOPInstanceUID
    assert before[0].dataset.SeriesInstanceUID != after[0].dataset.SeriesInstanceUID


def test_captures_share_a_series_and_file_meta_names_the_object(make_result, with_everything, started):
    objects = encode(with_everything(make_result()), started)
    assert len({series for _, series in uids(objects)[-2:]}) == 1
    for each in objects:
        assert each.dataset.file_meta.MediaStorageSOPInstanceUID == each.dataset.SOPInstanceUID


def with_other_frames(result):
    """Return the result with other images of the same patient."""
    return replace(result, sources=tuple(replace(each, frames=each.frames[1:]) for each in result.sources))
