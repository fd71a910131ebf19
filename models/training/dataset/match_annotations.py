"""Match annotations to studies: a SEG by its references, another file by its folder. Reads no voxels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.training.dataset.file_annotations import SUFFIXES
from models.training.dataset.seg_annotations import SEG_CLASSES, referenced_series
from models.training.dataset.writer import SkippedStudy
from pipeline.study import Scan, Study


@dataclass(frozen=True, slots=True)
class AnnotatedStudy:
    """A study with the SEG objects and files that may annotate it."""

    study: Study
    """The study without its SEG series."""
    segs: tuple[Path, ...]
    files: tuple[Path, ...]


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
    segs: dict[str, list[Path]] = {}
    for study in found.studies:
        for path in _seg_paths(study):
            referred = {of_series[uid] for uid in referenced_series(path) if uid in of_series}
            owner = referred.pop() if len(referred) == 1 else study.study_instance_uid
            segs.setdefault(owner, []).append(path)
    holders = _holders(folder, found.studies)
    files: dict[str, list[Path]] = {}
    unmatched: list[SkippedStudy] = []
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
        )
        for study in found.studies
        if any(series.modality == "MR" for series in study.series)
    )
    return studies, tuple(unmatched)


def _seg_paths(study: Study) -> list[Path]:
    return [
        instance.path
        for series in study.series
        for instance in series.instances
        if instance.sop_class_uid in SEG_CLASSES
    ]


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
