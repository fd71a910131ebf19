"""The look at objects in files, ours or anybody's, with as much of their study as is given. Writes nothing."""

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dicom_seg.at_hand import around_files, is_result
from dicom_seg.check import Look, look_at
from dicom_seg.encode import EncodedObject
from pipeline.errors import StudyUnreadable
from pipeline.scan import scan
from pipeline.study import Instance, Scan


def check_files(path: Path, study: Path | None = None) -> tuple[Look, ...]:
    """One look for each SEG, SR and secondary capture in `path`, a file or folder; damaged files count as wrong.

    What they were made of is looked for in `path` and in `study`. Raises StudyUnreadable where a path does not exist or
    `path` holds nothing to look at.
    """
    found = scan([path])
    # What lies in both is one object.
    everything = found if study is None else scan([path, study])
    at_hand = around_files((each.study_instance_uid, series) for each in everything.studies for series in each.series)
    mine = {instance.path for instance in _results(found)}
    objects, looks = [], []
    for instance in _results(everything):
        # SEGs beside the study are read as well, because reports in `path` may measure their segments.
        if instance.path in mine or instance.sop_class_uid == SegmentationStorage:
            encoded = _read(instance, _name(instance.path, path))
            if encoded is not None:
                objects.append((instance.path in mine, encoded))
            elif instance.path in mine:
                looks.append(Look(_name(instance.path, path), instance.sop_class_uid, ("it cannot be read.",)))
    looked = look_at([encoded for _, encoded in objects], at_hand)
    looks += [look for (is_mine, _), look in zip(objects, looked, strict=True) if is_mine]
    looks += [Look(_name(each.path, path), "", (f"{each.reason}.",)) for each in found.ignored if each.damaged]
    if not looks:
        raise StudyUnreadable(f"{path} holds no SEG, SR or secondary capture. Give a file or folder that does.")
    return tuple(sorted(looks, key=lambda look: look.file_name))


def _results(found: Scan) -> Iterator[Instance]:
    for study in found.studies:
        for series in study.series:
            yield from (instance for instance in series.instances if is_result(instance.sop_class_uid))


def _read(instance: Instance, name: str) -> EncodedObject | None:
    try:
        return EncodedObject(dcmread(instance.path, force=True), name, instance.sop_class_uid, "")
    except (OSError, EOFError, InvalidDicomError, ValueError, AttributeError):
        return None


def _name(path: Path, given: Path) -> str:
    return str(path.relative_to(given)) if path != given and path.is_relative_to(given) else path.name
