"""What was absent is said in one sentence for each series, with the labels concerned."""

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, TUMOUR_CORE, Role
from pipeline.absence import absence_remarks
from pipeline.remarks import RemarkKind
from pipeline.result import Inferred, NotReported


def test_a_complete_study_needs_no_remark() -> None:
    assert absence_remarks((), (), ()) == ()


def test_each_absent_series_has_a_remark_with_what_is_not_reported_and_what_was_inferred() -> None:
    found = absence_remarks(
        (Role.ADC, Role.T2, Role.T1CE),
        (NotReported(ENHANCING_TUMOUR, Role.T1CE), NotReported(TUMOUR_CORE, Role.T1CE)),
        (Inferred(ADC_ABNORMALITY, Role.ADC, (Role.FLAIR, Role.T1)),),
    )
    assert {each.kind for each in found} == {RemarkKind.ABSENT}
    assert [each.roles for each in found] == [(Role.ADC,), (Role.T2,), (Role.T1CE,)]
    without = "was absent, and the study was segmented without it."
    assert [each.text for each in found] == [
        f"ADC {without} ADC abnormality was inferred from FLAIR and T1.",
        f"T2 {without}",
        f"T1CE {without} Not reported, which does not mean that there is none: Enhancing tumour and Tumour core.",
    ]
