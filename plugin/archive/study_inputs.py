"""Find the MR images of a study in the archive. The node's own results are no MR images, so they start no job."""

from dataclasses import dataclass, field
from pathlib import Path

from plugin.archive.file_meta import read_sop_class_uid
from plugin.archive.store import Archive

# MR Image, Enhanced MR Image, Enhanced MR Color Image, Legacy Converted Enhanced MR Image (PS3.4 B.5)
MR_IMAGE_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("4", "4.1", "4.3", "4.4"))


@dataclass(frozen=True, slots=True)
class StudyInputs:
    """The MR images of a study in the archive."""

    paths: tuple[Path, ...]
    sop_instance_uids: tuple[str, ...]
    """In the order of `paths`."""
    other_instances: int
    """How many instances of other SOP classes the study has."""
    replacements: int = field(default=0, kw_only=True)
    """How often an instance of the study took the place of another."""


def read_inputs(archive: Archive, study_instance_uid: str) -> StudyInputs:
    """Return the MR images of a study, by the file meta information of its files alone."""
    files = archive.files(study_instance_uid)
    images = tuple(path for path in files if _is_image(path))
    return StudyInputs(
        images,
        tuple(path.stem for path in images),
        len(files) - len(images),
        replacements=archive.count_replacements(study_instance_uid),
    )


def _is_image(path: Path) -> bool:
    """Return whether a file is an MR image, or may be one: of a damaged file the job finds out, and says so."""
    try:
        sop_class_uid = read_sop_class_uid(path)
    except FileNotFoundError:  # purged just now
        return False
    except OSError:
        return True
    return not sop_class_uid or sop_class_uid in MR_IMAGE_CLASSES
