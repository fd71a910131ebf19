"""Check which instances the node can commit to: those in the archive, synced to disk, under the requested SOP class.

The node's commitment lasts as long as its retention (`storage.keep_days`, `storage.purge_below_mb`, `glionode purge`).
A site that deletes its last copy because of it has to keep both settings at 0. Each report is made when it is sent, so
it is true at that time:
- committed, then purged: the report was true, and the results from the instance were delivered before;
- purged, then requested: 0x0112, no such object instance. The sender can send it and request again; a study is purged
  only when it is finished, delivered, and unchanged for as long as the settings say;
- requested while its study is being purged: 0x0112, too, even if an image that has just come prevents the purge.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.atomic_write import sync_folder
from plugin.archive.file_meta import read_sop_class_uid
from plugin.archive.store import Archive
from plugin.dimse.commitment_messages import CommitmentReport, FailedReference, FailureReason, Reference


def make_report(archive: Archive, transaction_uid: str, references: Iterable[Reference]) -> CommitmentReport:
    """Report what the node can commit to now."""
    requested = tuple(dict.fromkeys(references))
    found = _find_classes(archive, {each.sop_instance_uid for each in requested})
    committed, failed = [], []
    for each in requested:
        classes = found.get(each.sop_instance_uid)
        if classes is None:
            failed.append(FailedReference(each, FailureReason.NO_SUCH_OBJECT))
        elif each.sop_class_uid not in classes:
            failed.append(FailedReference(each, FailureReason.CLASS_INSTANCE_CONFLICT))
        else:
            committed.append(each)
    return CommitmentReport(transaction_uid, tuple(committed), tuple(failed))


def _find_classes(archive: Archive, sop_instance_uids: set[str]) -> dict[str, set[str]]:
    """Return the SOP classes of the instances in the archive; a UID can be there twice, in two series."""
    indexed = archive.find(sop_instance_uids)
    if indexed is None:
        return _search_classes(archive, sop_instance_uids)
    found: dict[str, set[str]] = {}
    folders: set[Path] = set()
    for each in indexed:
        path = archive.path(each.key)
        with suppress(OSError):  # the files are the truth, also about one that was cut short since
            if path.stat().st_size == each.size_bytes:
                found.setdefault(each.key.sop_instance_uid, set()).add(each.sop_class_uid)
                folders.add(path.parent)
    _sync(folders)
    return found


def _search_classes(archive: Archive, sop_instance_uids: set[str]) -> dict[str, set[str]]:
    """Do the same by the files alone, the studies that got an instance last first.

    While the index is being completed, or the database does not answer.
    """
    found: dict[str, set[str]] = {}
    folders: set[Path] = set()
    for study in sorted(archive.studies(), key=lambda study: archive.last_received(study) or 0.0, reverse=True):
        for path in archive.files(study):
            if path.stem in sop_instance_uids:
                try:
                    found.setdefault(path.stem, set()).add(read_sop_class_uid(path))
                except FileNotFoundError:  # purged just now
                    found.pop(path.stem, None)
                    continue
                folders.add(path.parent)
        if len(found) == len(sop_instance_uids):
            break
    _sync(folders)
    return found


def _sync(folders: set[Path]) -> None:
    for folder in folders:  # a copy may have come a moment ago, before the C-STORE response for it
        for each in (folder, folder.parent, folder.parent.parent):
            if each.is_dir():
                sync_folder(each)
