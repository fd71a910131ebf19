"""Orthanc as the archive: what a study there has, its headers, and then the files of the series that are taken.

One question gives every instance of a study with its class, its size and where its pixels begin. So the worker asks for
the beginnings of the images alone, chooses by them, and fetches only what was chosen whole.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.choose import Selected, choose
from pipeline.scan import scan
from plugin.archive.archive import is_uid
from plugin.archive.study_inputs import MR_IMAGE_CLASSES, StudyInputs
from plugin.jobs.jobs import Job
from plugin.orthanc_client import OrthancClient, is_orthanc_id
from plugin.settings import Settings
from plugin.web.archive_client import ArchiveAway, NotInArchive
from plugin.worker.report_file import read_report
from plugin.worker.served_model import served_package, wanted_roles
from plugin.worker.site_rules import SiteRules
from plugin.worker.spool import Spool
from plugin.worker.supply import Bench, Supply

_BEYOND_OFFSET = 64
"""Bytes after the place where the pixels' element begins: its tag, and what says how long it is (PS3.5 7.1)."""
_NUMBER = re.compile(r"[0-9]{1,18}")


class TwoStudies(NotInArchive):
    """Orthanc has two studies of one UID: it tells patients apart by their ID, and the standard does not."""

    def __init__(self, study_instance_uid: str, ids: tuple[str, ...]) -> None:
        super().__init__(
            f"Orthanc has {len(ids)} studies {study_instance_uid}, of patients with different IDs. Delete or anonymise "
            "the wrong one."
        )
        self.ids = ids
        """Orthanc's identifiers of them."""


@dataclass(frozen=True, slots=True)
class OrthancImage:
    """An instance as Orthanc describes it."""

    orthanc_id: str
    sop_instance_uid: str
    size: int
    """Bytes of its file."""
    head: int
    """Bytes up to its pixels; as many as `size` where that is not known."""


@dataclass(frozen=True, slots=True)
class OrthancInputs(StudyInputs):
    """The MR images of a study in Orthanc; `paths` are names for their copies."""

    images: tuple[OrthancImage, ...] = ()
    """In the order of `paths`."""
    others: tuple[str, ...] = ()
    """SOP instance UIDs of what else the study has."""


def study_uid_of(client: OrthancClient, orthanc_id: str) -> str:
    """The study instance UID of a study of Orthanc's. Raises NotInArchive, ArchiveAway."""
    try:
        uid = str(client.get_json(f"/studies/{orthanc_id}")["MainDicomTags"]["StudyInstanceUID"])
    except (KeyError, TypeError) as exc:
        raise NotInArchive(f"Orthanc has no study {orthanc_id} with a study instance UID.") from exc
    if not is_uid(uid):
        raise NotInArchive(f"The study instance UID of study {orthanc_id} in Orthanc is none.")
    return uid


def orthanc_ids_of(client: OrthancClient, study_instance_uid: str) -> tuple[str, ...]:
    """Orthanc's own identifiers of a study: one, none where it is not there. Raises ArchiveAway."""
    found = client.post_json("/tools/lookup", study_instance_uid.encode())
    studies = [each for each in found if isinstance(each, dict) and each.get("Type") == "Study"]
    return tuple(sorted(str(each["ID"]) for each in studies if is_orthanc_id(str(each.get("ID", "")))))


def inputs_of(client: OrthancClient, study_instance_uid: str) -> OrthancInputs:
    """What Orthanc has of a study; nothing where it has no such study. Raises TwoStudies, ArchiveAway."""
    ids = orthanc_ids_of(client, study_instance_uid)
    if len(ids) > 1:
        raise TwoStudies(study_instance_uid, ids)
    if not ids:
        return OrthancInputs((), (), 0)
    question = {"Resources": list(ids), "Level": "Instance", "Metadata": True}
    found: Any = client.post_json("/tools/bulk-content", question)
    try:
        images, others = [], []
        for each in found:
            if each["Metadata"].get("SopClassUid") in MR_IMAGE_CLASSES:
                images.append(_image(each))
            else:
                others.append(str(each["MainDicomTags"]["SOPInstanceUID"]))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ArchiveAway("What answers as Orthanc is none, or older than 1.9.4.") from exc
    images.sort(key=lambda image: (image.sop_instance_uid, image.orthanc_id))
    return OrthancInputs(
        # Orthanc's own name: nothing keeps two series of a study from having images of one SOP instance UID.
        tuple(Path(f"{image.orthanc_id}.dcm") for image in images),
        tuple(image.sop_instance_uid for image in images),
        len(found) - len(images),
        tuple(images),
        tuple(others),
    )


class OrthancSupply:
    """Images from Orthanc; results are kept where the node keeps all of them, for the outbox to send."""

    def __init__(self, settings: Settings, client: OrthancClient, spool: Spool, results: Supply) -> None:
        """Raises ModelUnusable."""
        self._client = client
        self._spool = spool
        self._results = results
        self._rules = SiteRules(settings.rules_path)
        self._derive_adc = settings.choose.derive_adc
        self._wanted = wanted_roles(served_package(settings.model.name, settings.installed_models_dir))
        self._whole: frozenset[str] = frozenset()
        """Series of the latest bench of which there is more than headers."""

    def inputs(self, job: Job) -> OrthancInputs:
        """Ask for the list."""
        return inputs_of(self._client, job.study_instance_uid)

    @contextmanager
    def bench(self, job: Job, inputs: StudyInputs) -> Iterator[Bench]:
        """All headers, with zeros where the pixels would be, and the files of the series that are chosen by them."""
        assert isinstance(inputs, OrthancInputs), "they come from `inputs`"
        folder = self._spool.folder()
        try:
            paths = tuple(folder / path for path in inputs.paths)
            missing = {}
            for path, image in zip(paths, inputs.images, strict=True):
                if not self._client.fetch_head(_file(image), path, image.size, image.head):
                    missing[path] = image
            for path in self._chosen(paths):
                if path in missing:
                    self._client.fetch(_file(missing[path]), path, missing[path].size)
            self._client.close()  # segmenting takes longer than Orthanc keeps an idle connection
            with self._results.bench(job, StudyInputs((), (), 0)) as bench:
                yield Bench(paths, bench.results)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, job: Job, results: Path) -> Path:
        """Where the node keeps all results. None that was computed from a series without its pixels is: the rules for
        choosing may have been changed since the images were fetched.
        """
        if strangers := {each.series_instance_uid for each in read_report(results).chosen} - self._whole:
            raise ArchiveAway(f"Series {min(strangers)} was chosen after its pixels were left out; it is tried again.")
        return self._results.keep(job, results)

    def close(self) -> None:
        """Hang up and remove the spool."""
        self._client.close()
        self._spool.close()

    def _chosen(self, paths: Sequence[Path]) -> Iterator[Path]:
        """The files of the series that the segmentation will choose by these headers."""
        studies = scan(paths).studies
        selected = choose(studies[0], self._wanted, self._rules.current(), self._derive_adc) if studies else None
        series = [each.series for each in selected.choices] if isinstance(selected, Selected) else []
        self._whole = frozenset(each.series_instance_uid for each in series)
        yield from {instance.path for each in series for instance in each.instances}


def _image(found: dict[str, Any]) -> OrthancImage:
    """Raises KeyError, ValueError, TypeError."""
    orthanc_id, size = str(found["ID"]), int(found["FileSize"])
    if not is_orthanc_id(orthanc_id) or size < 0:
        raise ValueError(orthanc_id)
    offset = str(found["Metadata"].get("PixelDataOffset", ""))
    head = int(offset) + _BEYOND_OFFSET if _NUMBER.fullmatch(offset) else size
    return OrthancImage(orthanc_id, str(found["MainDicomTags"]["SOPInstanceUID"]), size, min(head, size))


def _file(image: OrthancImage) -> str:
    return f"/instances/{image.orthanc_id}/file"
