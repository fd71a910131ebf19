"""Use an Orthanc as the archive: list a study, fetch all headers, then fetch only the series that are chosen.

One request lists every instance of a study with its SOP class, its size and the offset of its pixel data. The worker
then fetches only the headers of the images, chooses series by them, and fetches the complete files of the chosen ones.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.choose import Selected, choose
from pipeline.scan import scan
from plugin.archive.report_reader import read_report
from plugin.archive.spool import Spool
from plugin.archive.study_inputs import StudyInputs
from plugin.errors import ArchiveUnavailable
from plugin.jobs.job import Job
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import OrthancImage, OrthancInputs, find_inputs
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package, wanted_roles
from plugin.sources.site_rules import SiteRules
from plugin.sources.study_source import StudySource, Workspace


class OrthancSource:
    """Take images from Orthanc, and store results where the node stores all results, for the outbox to send."""

    def __init__(self, settings: Settings, client: OrthancClient, spool: Spool, results: StudySource) -> None:
        """`results` is the source that stores the results. Raises ModelUnusable, SettingsWrong."""
        self._client = client
        self._spool = spool
        self._results = results
        self._rules = SiteRules(settings.rules_path)
        self._derive_adc = settings.choose.derive_adc
        package = served_package(settings.model.name, settings.installed_models_dir)
        self._wanted = wanted_roles(package, settings.model.require)
        self._complete_series: frozenset[str] = frozenset()
        """UIDs of the series in the latest workspace that were fetched with their pixels."""

    def inputs(self, job: Job) -> OrthancInputs:
        """Request the list of the study's images."""
        return find_inputs(self._client, job.study_instance_uid)

    @contextmanager
    def workspace(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        """Provide a file for every image; files of series that are not chosen have zeros in place of their pixels."""
        assert isinstance(inputs, OrthancInputs), "inputs come from `inputs()` of this source"
        folder = self._spool.make_folder()
        try:
            paths = tuple(folder / path for path in inputs.paths)
            header_only = {}
            for path, image in zip(paths, inputs.images, strict=True):
                if not self._client.fetch_head(_file(image), path, image.size, image.head):
                    header_only[path] = image
            for path in self._choose(paths):
                if path in header_only:
                    self._client.fetch(_file(header_only[path]), path, header_only[path].size)
            self._client.close()  # segmenting takes longer than Orthanc keeps an idle connection
            with self._results.workspace(job, StudyInputs((), (), 0)) as workspace:
                yield Workspace(paths, workspace.results)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store_results(self, job: Job, results: Path) -> Path:
        """Store the results, unless they were computed from a series whose pixels were not fetched.

        That happens when the rules for choosing changed between fetching and segmenting; the job is then tried again.
        """
        if incomplete := {each.series_instance_uid for each in read_report(results).chosen} - self._complete_series:
            raise ArchiveUnavailable(
                f"Series {min(incomplete)} was chosen, but its pixels had not been fetched, because the rules for "
                "choosing changed meanwhile; the job will be tried again."
            )
        return self._results.store_results(job, results)

    def close(self) -> None:
        """Close the connection and remove the spool."""
        self._client.close()
        self._spool.close()

    def _choose(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Yield the files of the series that the segmentation will choose by these headers."""
        studies = scan(paths).studies
        wanted, rules = self._wanted, self._rules.current()
        selected = choose(studies[0], wanted.roles, rules, self._derive_adc, wanted.optional) if studies else None
        series = [each.series for each in selected.choices] if isinstance(selected, Selected) else []
        self._complete_series = frozenset(each.series_instance_uid for each in series)
        yield from {instance.path for each in series for instance in each.instances}


def _file(image: OrthancImage) -> str:
    return f"/instances/{image.orthanc_id}/file"
