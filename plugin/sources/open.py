"""Open the sources of studies that the settings name."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from plugin.archive.spool import Spool
from plugin.archive.store import EmbeddedArchive
from plugin.archive.study_inputs import StudyInputs
from plugin.errors import ArchiveAway
from plugin.http.archive_client import ArchiveClient
from plugin.jobs.job import Job, Source
from plugin.settings.sections import Settings
from plugin.sources.source import DiskSource, HttpSource, StudySource, Workspace


def open_source(settings: Settings) -> StudySource:
    """The way to the archives that the settings name. Raises SettingsWrong, ModelUnusable."""
    own: StudySource
    if settings.http.archive_url:
        own = HttpSource(ArchiveClient(settings.http), Spool(settings.data_dir))
    else:
        own = DiskSource(EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0))
    if not settings.orthanc.url:
        return SourceRouter({Source.OWN: own})
    from plugin.orthanc.client import OrthancClient
    from plugin.sources.orthanc import OrthancSource

    beside = OrthancSource(settings, OrthancClient(settings.orthanc), Spool(settings.data_dir), own)
    return SourceRouter({Source.OWN: own, Source.ORTHANC: beside})


class SourceRouter:
    """Has a job's images from where they are; which archive that is, its row says."""

    def __init__(self, supplies: Mapping[Source, StudySource]) -> None:
        self._supplies = supplies

    def inputs(self, job: Job) -> StudyInputs:
        """Ask its source."""
        return self._of(job).inputs(job)

    def bench(self, job: Job, inputs: StudyInputs) -> AbstractContextManager[Workspace]:
        """Have its source do so."""
        return self._of(job).bench(job, inputs)

    def keep(self, job: Job, results: Path) -> Path:
        """Have its source do so."""
        return self._of(job).keep(job, results)

    def close(self) -> None:
        """Close all."""
        for supply in self._supplies.values():
            supply.close()

    def _of(self, job: Job) -> StudySource:
        supply = self._supplies.get(job.source)
        if supply is None:
            raise ArchiveAway("The images lie in Orthanc, and the settings of this worker name none; see orthanc.url.")
        return supply
