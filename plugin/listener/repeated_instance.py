"""Decide what becomes of an instance that comes again with other bytes than those in the archive.

The same image in another encoding, or with elements that a router coerced: the sender gets success, the first is kept.
Another patient's name on the same image: as the site wants. An image that could not be read and now can, or whose file
in the archive is damaged: it is taken.
Anything else is another image under a used UID, and refused.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.header import NotDicom
from plugin.archive.compare_instances import (
    Comparison,
    Kind,
    compare_instances,
    compare_with_damaged,
    name_tags,
    patient_changed,
    read_patient,
)
from plugin.archive.damage import find_damage
from plugin.archive.incoming_file import IncomingFile
from plugin.archive.store import Archive, InstanceKey
from plugin.database.audit_log import Peer
from plugin.settings.sections import CorrectedPatients

_LOG = logging.getLogger(__name__)


class Repeat(StrEnum):
    """What became of an instance that came again."""

    KEPT_FIRST = "kept first"
    """The first stays; the sender got success."""
    KEPT_FIRST_PATIENT = "kept first patient"
    """The same for an image that came for another patient."""
    NEW_PATIENT = "new patient"
    """It took the place of the first, because the patient was corrected."""
    MENDED = "mended"
    """It took the place of the first, which could not be read."""
    REFUSED_IMAGE = "refused image"
    REFUSED_PATIENT = "refused patient"


@dataclass(frozen=True, slots=True)
class RepeatOutcome:
    """What became of an instance that came again, without a value of it."""

    repeat: Repeat
    tags: tuple[int, ...]
    """The elements that differ from the first."""
    why: str = ""
    """Why it was refused: a clause."""


_WITHOUT_CORRECTION = {
    Kind.SAME_IMAGE: Repeat.KEPT_FIRST,
    Kind.FIRST_UNREADABLE: Repeat.MENDED,
    Kind.OTHER_IMAGE: Repeat.REFUSED_IMAGE,
}
_REPLACED = "its patient was corrected; see glionode replacements"

OnRepeat = Callable[[str, Peer, RepeatOutcome], None]
"""Called with the Study Instance UID and the sender of an instance that came again with other bytes."""


class RepeatedInstances:
    """Compares, one at a time: decoding pixels takes memory."""

    def __init__(self, archive: Archive, corrected_patients: CorrectedPatients) -> None:
        self._archive = archive
        self._corrected_patients = corrected_patients
        self._lock = threading.Lock()

    def take(self, key: InstanceKey, incoming: IncomingFile) -> RepeatOutcome:
        """Keep the first, or let the new file take its place. The caller discards `incoming`. Raises NoRoom."""
        with self._lock:
            first, received = self._archive.path(key), self._archive.received_sha256(key)
            damage = find_damage(first, received)
            if damage is None:
                found = compare_instances(first, incoming.path)
            elif incoming.sha256 == received:
                found = Comparison(Kind.FIRST_UNREADABLE)
            else:
                found = compare_with_damaged(first, incoming.path)
            if damage is not None:
                _LOG.warning("instance %s in the archive is damaged: %s", key.sop_instance_uid, damage)
            outcome = self._decide(found, key, incoming.path)
            if outcome.repeat in (Repeat.NEW_PATIENT, Repeat.MENDED):
                self._archive.replace(key, incoming)
                what = "for another patient" if outcome.repeat is Repeat.NEW_PATIENT else "whole"
                _LOG.warning(
                    "instance %s came again %s and took the place of the first, which is kept; %s differ",
                    *(key.sop_instance_uid, what, name_tags(outcome.tags) or "its pixels"),
                )
        return outcome

    def _decide(self, found: Comparison, key: InstanceKey, new: Path) -> RepeatOutcome:
        if found.kind is not Kind.OTHER_PATIENT:
            return RepeatOutcome(_WITHOUT_CORRECTION[found.kind], found.tags, found.why)
        if self._corrected_patients == "keep":
            return RepeatOutcome(Repeat.KEPT_FIRST_PATIENT, found.tags)
        if self._corrected_patients == "refuse":
            return RepeatOutcome(Repeat.REFUSED_PATIENT, found.tags, "this image is known for another patient")
        if self._was_replaced(key, new):
            # A stale copy, or a correction taken back: only a person can tell.
            return RepeatOutcome(Repeat.REFUSED_PATIENT, found.tags, _REPLACED)
        return RepeatOutcome(Repeat.NEW_PATIENT, found.tags)

    def _was_replaced(self, key: InstanceKey, new: Path) -> bool:
        """Return whether an earlier file of the instance was for the patient of this one, before it was replaced."""
        try:
            patient = read_patient(new)
        except NotDicom:
            return True
        earlier = []
        for path in self._archive.replaced(key):
            with suppress(NotDicom, OSError):  # a damaged one, which tells nothing
                earlier.append(read_patient(path))
        return any(not patient_changed(each, patient) and not patient_changed(patient, each) for each in earlier)
