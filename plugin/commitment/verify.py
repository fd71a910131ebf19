"""What the node can commit to: an instance that lies in the archive, synced, under the SOP class that is asked about.

A commitment of this node holds for as long as its retention does (`storage.keep_days`, `storage.purge_below_mb`,
`glionode purge`): it is a way station, and whoever deletes the last copy elsewhere on its word keeps both at 0 here. A
report is made afresh each time that it is sent, so it is true at that time:
- committed to, then purged: the report was true, and what was to be made of the instance was delivered before;
- purged, then asked about: 0x0112, no such instance is here. A sender that minds sends it and asks once more, and what
  came a moment ago is not purged: a study has to be over, delivered, and unchanged for as long as the settings say;
- asked about while its study is being purged: 0x0112 too, also where an image that has just come lets it stay.
"""

from collections.abc import Iterable
from pathlib import Path

from pipeline.atomic_write import sync_folder
from plugin.archive.file_meta import sop_class_uid
from plugin.archive.store import Archive
from plugin.dimse.commitment_messages import CommitmentReport, FailureReason, Reference


def make_report(archive: Archive, transaction_uid: str, references: Iterable[Reference]) -> CommitmentReport:
    """What can be committed to now. Looks through the archive, the studies first that got an instance last."""
    wanted = tuple(dict.fromkeys(references))
    found = _classes(archive, {each.sop_instance_uid for each in wanted})
    committed, failed = [], []
    for each in wanted:
        classes = found.get(each.sop_instance_uid)
        if classes is None:
            failed.append((each, int(FailureReason.NO_SUCH_OBJECT)))
        elif each.sop_class_uid not in classes:
            failed.append((each, int(FailureReason.CLASS_INSTANCE_CONFLICT)))
        else:
            committed.append(each)
    return CommitmentReport(transaction_uid, tuple(committed), tuple(failed))


def _classes(archive: Archive, sop_instance_uids: set[str]) -> dict[str, set[str]]:
    """SOP classes of instances that are there; a UID can be there twice, in two series."""
    found: dict[str, set[str]] = {}
    folders: set[Path] = set()
    for study in sorted(archive.studies(), key=lambda study: archive.last_received(study) or 0.0, reverse=True):
        for path in archive.files(study):
            if path.stem in sop_instance_uids:
                try:
                    found.setdefault(path.stem, set()).add(sop_class_uid(path))
                except FileNotFoundError:  # purged just now
                    found.pop(path.stem, None)
                    continue
                folders.add(path.parent)
        if len(found) == len(sop_instance_uids):
            break
    for folder in folders:  # a copy may have come a moment ago, and its sender not have its answer yet
        if folder.is_dir():
            sync_folder(folder)
    return found
