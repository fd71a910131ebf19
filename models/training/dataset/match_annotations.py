"""Match annotations to studies: a SEG by its references, another file by its folder. Reads no voxels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.training.dataset.file_annotations import SUFFIXES
from models.training.dataset.seg_annotations import SEG_CLASSES, referenced_series
from models.training.dataset.writer import SkippedStudy
from pipeline.study import Instance, Scan, Study

_UNREAD = {
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.66.5": "Surface Segmentation",
}
"""SOP classes of contours and surfaces (PS3.4 B.5)."""


@dataclass(frozen=True, slots=True)
class AnnotatedStudy:
    """A study with the SEG objects and files that may annotate it."""

    study: Study
    """The study without its SEG series."""
    segs: tuple[Path, ...]
    files: tuple[Path, ...]
    unread: tuple[str, ...] = ()
    """Kinds of other objects of the study that may annotate it, and are not read, such as RTSTRUCT."""


def annotated_studies(folder: Path, found: Scan) -> tuple[tuple[AnnotatedStudy, ...], tuple[SkippedStudy, ...]]:
    """Return the MR studies under `folder` with their annotations, and the files that match no single study.

    A file belongs to the study whose images are nearest: in its folder, or under the nearest of its parent folders.
    """
    of_series = {
        series.series_instance_uid: study.study_instance_uid
        for study in found.studies
        for series in study.series
        if series.modality == "MR"
    }
    studies_by_uid = {study.study_instance_uid: study for study in found.studies}
    segs: dict[str, list[Path]] = {}
    unmatched: list[SkippedStudy] = []
    for study in found.studies:
        for seg in _segs(study):
            referred = {of_series[uid] for uid in referenced_series(seg.path) if uid in of_series}
            owner = referred.pop() if len(referred) == 1 else study.study_instance_uid
            if _is_of_another_patient(seg, studies_by_uid[owner]):
                reason = f"It carries another patient ID than the images of study {owner}. Correct it, or remove it."
                unmatched.append(SkippedStudy(f"SEG {seg.sop_instance_uid}", reason))
            else:
                segs.setdefault(owner, []).append(seg.path)
    holders = _holders(folder, found.studies)
    files: dict[str, list[Path]] = {}
    for path in sorted(each for each in folder.rglob("*") if each.name.lower().endswith(SUFFIXES) and each.is_file()):
        owners = _nearest(path, folder, holders)
        named = [uid for uid in owners if uid in path.name]
        if len(owners) == 1 or len(named) == 1:
            files.setdefault((named or list(owners))[0], []).append(path)
        else:
            reason = f"It is equally near to {len(owners)} studies. Move it into the folder of its study."
            unmatched.append(SkippedStudy(str(path.relative_to(folder)), reason))
    studies = tuple(
        AnnotatedStudy(
            Study(study.study_instance_uid, tuple(series for series in study.series if series.modality != "SEG")),
            tuple(segs.get(study.study_instance_uid, ())),
            tuple(files.get(study.study_instance_uid, ())),
            _unread(study),
        )
        for study in found.studies
        if any(series.modality == "MR" for series in study.series)
    )
    return studies, tuple(unmatched)


def _segs(study: Study) -> list[Instance]:
    return [each for series in study.series for each in series.instances if each.sop_class_uid in SEG_CLASSES]


def _unread(study: Study) -> tuple[str, ...]:
    classes = [each.sop_class_uid for series in study.series for each in series.instances]
    return tuple(kind for sop_class, kind in _UNREAD.items() if sop_class in classes)


def _is_of_another_patient(seg: Instance, study: Study) -> bool:
    """Return whether a SEG names a patient, and no MR image of the study names the same."""
    images = [each for series in study.series if series.modality == "MR" for each in series.instances]
    known = {each.patient.patient_id for each in images} - {""}
    return bool(known and seg.patient.patient_id) and seg.patient.patient_id not in known


def _holders(folder: Path, studies: Iterable[Study]) -> dict[Path, set[str]]:
    """Map each folder to the studies with MR images in it or in one of its subfolders."""
    holders: dict[Path, set[str]] = {}
    for study in studies:
        parents = {
            instance.path.parent for series in study.series if series.modality == "MR" for instance in series.instances
        }
        for parent in parents:
            for above in (parent, *parent.parents):
                holders.setdefault(above, set()).add(study.study_instance_uid)
                if above == folder:
                    break
    return holders


def _nearest(path: Path, folder: Path, holders: Mapping[Path, set[str]]) -> set[str]:
    for above in path.parents:
        if above in holders:
            return holders[above]
        if above == folder:
            break
    return set()
