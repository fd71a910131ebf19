"""Choose among the series of a study, without those that turned out not to show the head."""

from dataclasses import dataclass, replace

from models.labels import Role
from pipeline.choose import NotEligible, Selected, choose
from pipeline.remarks import Remark, RemarkKind
from pipeline.reported_labels import reported_labels
from pipeline.study import Series, Study
from plugin.worker.context import WorkerContext


@dataclass(frozen=True, slots=True)
class CandidateSeries:
    """The series of a study that may be chosen."""

    study: Study
    """Without those that were passed over."""
    passed_over: tuple[Remark, ...] = ()
    """One for each series that was chosen first and turned out not to show the head."""

    def choose(self, context: WorkerContext) -> Selected | NotEligible:
        """Choose the series for the roles that the model takes."""
        wanted = context.wanted
        return choose(self.study, wanted.roles, context.rules, context.derive_adc, wanted.optional)

    def without(self, series: Series) -> "CandidateSeries":
        """Return the candidates without a series that was chosen."""
        parts = {series.series_instance_uid, *(each.series_instance_uid for each in series.instances)}
        rest = tuple(each for each in self.study.series if each.series_instance_uid not in parts)
        return replace(self, study=replace(self.study, series=rest))

    def passing_over(self, series: Series, role: Role, replaced: bool) -> "CandidateSeries":
        """Return the candidates with a remark that a series was passed over, as it does not show the head."""
        number = "" if series.series_number is None else f" {series.series_number}"
        text = (
            f"Series{number} ({series.series_instance_uid}) was the first choice for {role}, but does not show the "
            f"head as that needs it; {'another series was taken' if replaced else 'it was left out'}."
        )
        return replace(self, passed_over=(*self.passed_over, Remark(RemarkKind.COVERAGE, text, (role,))))


def why_not_eligible(selected: Selected | NotEligible, context: WorkerContext) -> str:
    """Return why there is nothing to segment; empty if there is."""
    if isinstance(selected, NotEligible):
        return selected.reason
    present = [each.role for each in selected.choices]
    reported = reported_labels(context.model.package, present)
    if reported.labels:
        return ""
    missing = " and ".join(dict.fromkeys(each.absent for each in reported.not_reported))
    return f"without {missing} the model reports no label: {selected.why_absent}"
