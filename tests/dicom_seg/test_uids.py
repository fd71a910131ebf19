from dataclasses import replace

from pydicom.uid import UID

from dicom_seg.uids import derive_uid, device_uid, result_uid, tracking_uid
from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR
from pipeline.volume import Frame


def test_equal_parts_give_equal_valid_uids():
    assert derive_uid("a", "b") == derive_uid("a", "b")
    assert derive_uid("a", "b") != derive_uid("ab")
    assert UID(derive_uid("a")).is_valid
    assert derive_uid("a").startswith("2.25.")


def test_result_uid_changes_with_study_images_model_and_purpose(make_result):
    result = make_result()
    uid = result_uid(result, "x")
    assert uid == result_uid(replace(result, sources=result.sources[::-1]), "x")
    other_frames = (Frame("1.2", "1.2.3", 1), *result.sources[0].frames[1:])
    changed = [
        result_uid(result, "y"),
        result_uid(replace(result, study_instance_uid="1.2.3"), "x"),
        result_uid(replace(result, model=replace(result.model, sha256="cd" * 32)), "x"),
        result_uid(
            replace(result, sources=(replace(result.sources[0], frames=other_frames), *result.sources[1:])), "x"
        ),
    ]
    assert len({uid, *changed}) == 5


def test_tracking_uid_does_not_depend_on_the_images(make_result):
    result = make_result()
    assert tracking_uid(result, ENHANCING_TUMOUR) == tracking_uid(replace(result, sources=()), ENHANCING_TUMOUR)
    assert tracking_uid(result, ENHANCING_TUMOUR) != tracking_uid(result, ADC_ABNORMALITY)


def test_another_model_is_another_device(make_result):
    model = make_result().model
    assert device_uid(model) == device_uid(replace(model, name="same weights"))
    assert device_uid(model) != device_uid(replace(model, sha256="cd" * 32))
