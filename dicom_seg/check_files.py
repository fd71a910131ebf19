"""Check SEG, SR and secondary captures in files, of any origin, against whatever images of their study are given."""

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dicom_seg.check import CheckedObject, check_objects
from dicom_seg.encode import EncodedObject
from dicom_seg.known_objects import is_result, known_from_scan
from pipeline.errors import StudyUnreadable
from pipeline.scan import scan
from pipeline.study import Instance, Scan


def check_files(path: Path, study: Path | None = None) -> tuple[CheckedObject, ...]:
    """Check each SEG, SR and secondary capture in `path`, a file or folder, in the order of their file names.

    Damaged files count as wrong. The images that the objects refer to are looked up in `path` and in `study`. Raises
    StudyUnreadable where a path does not exist or `path` holds nothing that can be checked.
    """
    found = scan([path])
    # A file that lies in both is one object.
    everything = found if study is None else scan([path, study])
    known = known_from_scan((each.study_instance_uid, series) for each in everything.studies for series in each.series)
    requested = {instance.path for instance in _results(found)}
    objects, checked = [], []
    for instance in _results(everything):
        # SEGs beside the study are read as well, because reports in `path` may measure their segments.
        if instance.path in requested or instance.sop_class_uid == SegmentationStorage:
            name = _relative_name(instance.path, path)
            encoded = _read(instance, name)
            if encoded is not None:
                objects.append((instance.path in requested, encoded))
            elif instance.path in requested:
                checked.append(CheckedObject(name, instance.sop_class_uid, ("it cannot be read.",)))
    all_checked = check_objects([encoded for _, encoded in objects], known)
    checked += [each for (is_requested, _), each in zip(objects, all_checked, strict=True) if is_requested]
    checked += [
        CheckedObject(_relative_name(each.path, path), "", (f"{each.reason}.",))
        for each in found.ignored
        if each.damaged
    ]
    if not checked:
        raise StudyUnreadable(f"{path} holds no SEG, SR or secondary capture. Give a file or folder that does.")
    return tuple(sorted(checked, key=lambda each: each.file_name))


def _results(found: Scan) -> Iterator[Instance]:
    for study in found.studies:
        for series in study.series:
            yield from (instance for instance in series.instances if is_result(instance.sop_class_uid))


def _read(instance: Instance, name: str) -> EncodedObject | None:
    try:
        return EncodedObject(dcmread(instance.path, force=True), name, instance.sop_class_uid, "")
    except (OSError, EOFError, InvalidDicomError, ValueError, AttributeError):
        return None


def _relative_name(path: Path, given: Path) -> str:
    return str(path.relative_to(given)) if path != given and path.is_relative_to(given) else path.name
