"""Tell whose study it is, so that all studies of a patient share a split."""

from collections.abc import Iterable
from dataclasses import dataclass

from models.training.dataset.writer import CaseRefused
from pipeline.header import NotDicom, read_header
from pipeline.study import Series, Study

_PATIENT_ID = 0x00100020
_UNNAMED = (
    "Its images name no patient, so it counts as a patient of its own: another study of that patient may come into "
    "another split."
)


@dataclass(frozen=True, slots=True)
class StudyPatient:
    """Whose study it is; nothing of it is written but as a hash."""

    identity: str
    """The Patient ID as it is written, or the study UID if there is none."""
    persons: tuple[str, ...]
    """The same person in other words: the ID whatever its spelling; without one, name with birth date. Beside an ID
    these prove nothing, since anonymisers give all patients one name and one date."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what is to be said of it."""
        return () if self.persons else (_UNNAMED,)


def study_patient(study: Study, chosen: Iterable[Series]) -> StudyPatient:
    """Return the patient of the chosen series; the study UID stands for one whose images all leave the ID empty.

    The issuer is ignored, because old studies often lack it. Two patients of two hospitals under one ID then share a
    split, which is safe; one patient under two identities could be in both training and test. Raises CaseRefused if an
    image can no longer be read.
    """
    images = [image for series in chosen for image in series.instances]
    named = next((image for image in images if image.patient.patient_id), None)
    persons = [f"id {named.patient.patient_id}"] if named is not None else []
    born = next((each.patient for each in images if each.patient.name and each.patient.birth_date), None)
    if named is None and born is not None:
        persons.append(f"born {born.birth_date} {' '.join(sorted(born.name))}")
    if named is None:
        return StudyPatient(f"study {study.study_instance_uid}", tuple(persons))
    try:
        identity = read_header(named.path, (_PATIENT_ID,)).text(_PATIENT_ID)
    except NotDicom as exc:
        raise CaseRefused("One of its images can no longer be read. Start again.") from exc
    return StudyPatient(f"dicom {identity}", tuple(persons))
