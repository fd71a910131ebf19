"""The chosen series are of one patient, and what does not prove that is said. No value of a header is ever shown."""

from dataclasses import replace

import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from models.labels import Role
from pipeline.errors import PatientsDiffer
from pipeline.identity import check_one_patient, identity_remarks
from pipeline.remarks import RemarkKind
from pipeline.scan import scan
from pipeline.volume import Geometry

ROLES = (Role.T1CE, Role.FLAIR, Role.ADC)
SLICES = 4
COMMON = {"PatientID": "MRN 0042", "PatientName": "Probe^Eins", "PatientBirthDate": "19600101", "PatientSex": "F"}


@pytest.fixture
def chosen_of(make):
    """Write three series and return the study and the series by role; headers by role, and by role and slice."""
    grid = Geometry.axial((SLICES, 4, 4), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), "1.2.3")

    def write(of_role=None, of_image=None, extra=()):
        for role in (*ROLES, *extra):
            attributes = COMMON | (of_role or {}).get(role, {})

            def change(header, number, role=role):
                for keyword, value in (of_image or {}).get((role, number), {}).items():
                    setattr(header, keyword, value)

            with disable_value_validation():
                make.classic(grid, str(role), change=change, **attributes)
        (study,) = scan([make.folder]).studies
        by_name = {each.description: each for each in study.series}
        return study, {role: by_name[role] for role in ROLES}

    return write


def refusal(chosen):
    with pytest.raises(PatientsDiffer) as caught:
        check_one_patient(chosen)
    return str(caught.value)


def issuer(uid):
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = uid, "ISO"
    return [item]


@pytest.mark.parametrize(
    ("other", "title"),
    [
        ({"PatientID": "MRN 0043"}, "another patient ID than"),
        ({"PatientBirthDate": "19600102"}, "another birth date than"),
        ({"PatientID": "B", "PatientBirthDate": "19310303"}, "another patient ID and birth date than"),
        ({"PatientBirthDate": "1931"}, "another birth date than"),
    ],
)
def test_a_series_of_another_patient_is_refused_by_name(other, title, chosen_of):
    _, chosen = chosen_of({Role.ADC: other})
    said = refusal(chosen)
    assert title in said
    assert f"series {chosen[Role.ADC].series_instance_uid} (ADC) has {SLICES} of {SLICES} images" in said
    assert not any(value in said.split() for value in (*COMMON.values(), *other.values()))


@pytest.mark.parametrize("form", [str, issuer])
def test_one_id_of_two_issuers_is_two_patients(form, chosen_of):
    keyword = "IssuerOfPatientID" if form is str else "IssuerOfPatientIDQualifiersSequence"
    _, chosen = chosen_of({role: {keyword: form(f"1.2.{3 + (role is Role.FLAIR)}")} for role in ROLES})
    said = refusal(chosen)
    assert f"series {chosen[Role.FLAIR].series_instance_uid} (FLAIR)" in said
    assert "another issuer of the patient ID" in said


def test_one_foreign_image_in_a_series_is_refused(chosen_of):
    _, chosen = chosen_of(of_image={(Role.T1CE, 2): {"PatientID": "OTHER", "PatientName": "Other^Nine"}})
    said = refusal(chosen)
    assert f"series {chosen[Role.T1CE].series_instance_uid} (T1CE) has 1 of {SLICES} images" in said
    assert said.count("series 1.") == 2, "the foreign one, and one that it is compared with"


def test_a_copy_of_an_image_with_another_patient_is_refused(chosen_of, make):
    _, chosen = chosen_of()
    image = chosen[Role.ADC].instances[0]
    copy = replace(image, patient=replace(image.patient, patient_id="another"))
    series = replace(chosen[Role.ADC], instances=(replace(image, copies=(copy,)), *chosen[Role.ADC].instances[1:]))
    assert f"has 1 of {SLICES + 1} images with another patient ID" in refusal(chosen | {Role.ADC: series})


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "  mrn 0042 "},
        {"PatientID": "MRN0042\0"},
        {"PatientID": ""},
        {"PatientBirthDate": ""},
        {"PatientBirthDate": "1960.01.01"},
        {"PatientBirthDate": "1960"},
        {"PatientBirthDate": "19600100"},
        {"PatientBirthDate": "00000000"},
        {"PatientBirthDate": "19000101"},
        {"IssuerOfPatientID": "Hospital"},
        {"PatientName": "EINS PROBE"},
        {"PatientName": "Próbe-Zwei^Eins"},
        {"PatientSex": "O"},
        {"PatientSex": "M"},  # one ID and one birth date: mistyped
    ],
    ids=lambda other: f"{next(iter(other))}={next(iter(other.values()))!r}",
)
def test_other_spellings_and_absent_values_are_one_patient(other, chosen_of):
    study, chosen = chosen_of({Role.FLAIR: other})
    check_one_patient(chosen)
    assert identity_remarks(study, chosen) == ()


def test_a_number_without_its_leading_zeros_is_one_patient(chosen_of):
    _, chosen = chosen_of({role: {"PatientID": "0012" if role is Role.T1CE else "12"} for role in ROLES})
    check_one_patient(chosen)


def test_another_sex_counts_where_no_birth_date_confirms_the_id(chosen_of):
    _, chosen = chosen_of({role: {"PatientBirthDate": "", "PatientSex": "FMF"[n]} for n, role in enumerate(ROLES)})
    assert "another sex" in refusal(chosen)


def test_an_anonymous_study_passes_without_a_remark(chosen_of):
    nobody = dict.fromkeys(COMMON, "")
    study, chosen = chosen_of(dict.fromkeys(ROLES, nobody))
    check_one_patient(chosen)
    assert identity_remarks(study, chosen) == ()


def test_images_that_name_nobody_are_told(chosen_of):
    study, chosen = chosen_of({Role.ADC: dict.fromkeys(COMMON, "")})
    check_one_patient(chosen)
    (remark,) = identity_remarks(study, chosen)
    assert (remark.kind, remark.roles) == (RemarkKind.IDENTITY, (Role.ADC,))
    assert remark.text.startswith(f"{SLICES} of {SLICES} images of ADC do not say whose they are")


def test_names_without_a_common_word_are_told(chosen_of):
    study, chosen = chosen_of({Role.ADC: {"PatientName": "Ganz^Anders"}})
    check_one_patient(chosen)
    (remark,) = identity_remarks(study, chosen)
    assert (remark.kind, remark.roles) == (RemarkKind.IDENTITY, (Role.T1CE, Role.ADC))
    assert not {"ganz", "anders", "probe", "eins"} & set(remark.text.lower().split())


def test_another_patient_on_a_series_that_is_not_used_is_told(chosen_of):
    study, chosen = chosen_of({Role.T2: {"PatientID": "OTHER"}}, extra=(Role.T2,))
    check_one_patient(chosen)
    (remark,) = identity_remarks(study, chosen)
    (foreign,) = (each.series_instance_uid for each in study.series if each.description == Role.T2)
    assert remark.text == f"Series {foreign} of this study has images of another patient; it was not used."


def test_series_of_other_days_are_told(chosen_of):
    dates = {Role.T1CE: "20260320", Role.FLAIR: "20260321", Role.ADC: "20260301"}
    study, chosen = chosen_of({role: {"AcquisitionDate": day, "StudyDate": "20260319"} for role, day in dates.items()})
    (remark,) = identity_remarks(study, chosen)
    assert (remark.kind, remark.text) == (RemarkKind.DATES, "ADC was acquired 19 days before T1CE.")


def test_a_study_of_another_date_is_told(chosen_of):
    dates = {"AcquisitionDateTime": "20260320235959.5+0100", "StudyDate": "20260401"}
    study, chosen = chosen_of(dict.fromkeys(ROLES, dates))
    (remark,) = identity_remarks(study, chosen)
    assert remark.text == "T1CE was acquired 12 days before the date of the study."


def test_one_series_over_days_is_told(chosen_of):
    study, chosen = chosen_of(
        {key: {"AcquisitionDate": "20260320"} for key in ROLES}, {(Role.T1CE, 0): {"AcquisitionDate": "20260301"}}
    )
    (remark,) = identity_remarks(study, chosen)
    assert remark.text == "The images of T1CE were acquired over 19 days."


def test_dates_that_are_none_are_left_out(chosen_of):
    study, chosen = chosen_of({Role.T1CE: {"AcquisitionDate": "20261399", "StudyDate": "unknown"}})
    assert identity_remarks(study, chosen) == ()


def test_who_it_is_never_shows_in_a_representation(chosen_of):
    study, _ = chosen_of({key: {"AcquisitionDate": "20260320", "StudyDate": "20260321"} for key in ROLES})
    shown = repr(study).lower()
    assert not any(each in shown for each in ("0042", "probe", "eins", "19600101", "20260321"))
