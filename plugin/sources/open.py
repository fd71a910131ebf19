"""Open the sources of studies that the settings name."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from plugin.archive.spool import Spool
from plugin.archive.store import EmbeddedArchive
from plugin.archive.study_inputs import StudyInputs
from plugin.errors import ArchiveUnavailable
from plugin.http.archive_client import ArchiveClient
from plugin.jobs.job import Job, JobSource
from plugin.settings.sections import Settings
from plugin.sources.study_source import DiskSource, HttpSource, StudySource, Workspace


def open_source(settings: Settings) -> StudySource:
    """Return access to every archive that the settings name. Raises SettingsWrong, ModelUnusable."""
    own: StudySource
    if settings.http.archive_url:
        own = HttpSource(ArchiveClient(settings.http), Spool(settings.data_dir))
    else:
        own = DiskSource(EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0))
    if not settings.orthanc.url:
        return SourceRouter({JobSource.OWN: own})
    from plugin.orthanc.client import OrthancClient
    from plugin.sources.orthanc import OrthancSource

    orthanc = OrthancSource(settings, OrthancClient(settings.orthanc), Spool(settings.data_dir), own)
    return SourceRouter({JobSource.OWN: own, JobSource.ORTHANC: orthanc})


class SourceRouter:
    """Pass each call on to the archive that holds the job's images, which the job's row names."""

    def __init__(self, sources: Mapping[JobSource, StudySource]) -> None:
        self._sources = sources

    def inputs(self, job: Job) -> StudyInputs:
        """Return the images of the job's study; see StudySource."""
        return self._source_of(job).inputs(job)

    def workspace(self, job: Job, inputs: StudyInputs) -> AbstractContextManager[Workspace]:
        """Provide the images as files; see StudySource."""
        return self._source_of(job).workspace(job, inputs)

    def store_results(self, job: Job, results: Path) -> Path:
        """Store a complete result folder; see StudySource."""
        return self._source_of(job).store_results(job, results)

    def close(self) -> None:
        """Close every source; see StudySource."""
        for source in self._sources.values():
            source.close()

    def _source_of(self, job: Job) -> StudySource:
        source = self._sources.get(job.source)
        if source is None:
            raise ArchiveUnavailable(
                f"Study {job.study_instance_uid} is in Orthanc, but this worker's settings name none; set orthanc.url."
            )
        return source
