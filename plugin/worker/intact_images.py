"""Compare the images of a job with what was received, before anything is computed from them."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import GlionodeError
from plugin.archive.damage import find_damage
from plugin.archive.store import InstanceKey
from plugin.archive.study_inputs import MR_IMAGE_CLASSES
from plugin.database.instance_rows import InstanceRow

_MOST_NAMED = 5


class ImagesDamaged(GlionodeError):
    """Images of a study are not as they were received."""


Received = Mapping[InstanceKey, InstanceRow]
"""What the index of the archive says of a study."""


def require_intact(study: str, paths: tuple[Path, ...], rows: Received) -> None:
    """Return where the files are those that were received, as far as `rows` tell.

    `paths` end in the UIDs of series and instance. Raises ImagesDamaged.
    """
    damaged: dict[str, str] = {}
    there = set()
    for path in paths:
        key = InstanceKey(study, path.parent.name, path.stem)
        there.add(key)
        row = rows.get(key)
        if (damage := find_damage(path, row.sha256 if row is not None else "")) is not None:
            damaged[path.stem] = damage
    for key, row in rows.items():
        if row.sop_class_uid in MR_IMAGE_CLASSES and key not in there:
            damaged[key.sop_instance_uid] = "its file is gone"
    if damaged:
        raise ImagesDamaged(_describe(study, damaged))


def _describe(study: str, damaged: dict[str, str]) -> str:
    named = [f"{uid}: {what}" for uid, what in list(damaged.items())[:_MOST_NAMED]]
    more = f", and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else ""
    return (
        f"{len(damaged)} images in the archive are damaged, so nothing was computed ({'; '.join(named)}{more}). Check "
        f"the disk and send study {study} again: whole images take the place of damaged ones, and it gets a new job."
    )
