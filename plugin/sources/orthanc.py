"""Orthanc as the archive: what a study there has, its headers, and then the files of the series that are taken.

One question gives every instance of a study with its class, its size and where its pixels begin. So the worker asks for
the beginnings of the images alone, chooses by them, and fetches only what was chosen whole.
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
from plugin.errors import ArchiveAway
from plugin.jobs.job import Job
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import OrthancImage, OrthancInputs, inputs_of
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package, wanted_roles
from plugin.sources.site_rules import SiteRules
from plugin.sources.source import StudySource, Workspace


class OrthancSource:
    """Images from Orthanc; results are kept where the node keeps all of them, for the outbox to send."""

    def __init__(self, settings: Settings, client: OrthancClient, spool: Spool, results: StudySource) -> None:
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
    def bench(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
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
                yield Workspace(paths, bench.results)
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


def _file(image: OrthancImage) -> str:
    return f"/instances/{image.orthanc_id}/file"
