"""Say which optional series of a study may still come. Reads headers only, and imports no torch."""

from models.labels import Role
from models.package import ModelPackage
from plugin.archive.study_inputs import StudyInputs
from plugin.settings.sections import Settings
from plugin.sources.served_model import WantedRoles, wanted_roles
from plugin.sources.site_rules import SiteRules


def awaited_series(settings: Settings, package: ModelPackage) -> "AwaitedSeries | None":
    """Return what finds the series that a study may wait for; None where it needs all, so that none is optional.

    Raises SettingsWrong where the settings contradict the package, or the rules cannot be read.
    """
    wanted = wanted_roles(package, settings.model.require)
    return AwaitedSeries(settings, wanted) if wanted.optional else None


class AwaitedSeries:
    """Finds the series that a study can be segmented without, but is better segmented with."""

    def __init__(self, settings: Settings, wanted: WantedRoles) -> None:
        self._wanted = wanted
        self._derive_adc = settings.choose.derive_adc
        self._rules = SiteRules(settings.rules_path)

    def __call__(self, inputs: StudyInputs) -> tuple[Role, ...]:
        """Return the optional roles that a study lacks so far; none where it lacks a required one, too.

        Such a study is not eligible, which its job says at once.
        """
        from pipeline.choose import Selected, choose  # the libraries for headers, which only such a model needs here
        from pipeline.scan import scan

        studies = scan(inputs.paths).studies
        if len(studies) != 1:  # its job says so
            return ()
        wanted = self._wanted
        found = choose(studies[0], wanted.roles, self._rules.current(), self._derive_adc, wanted.optional)
        return found.absent if isinstance(found, Selected) else ()
