"""Choose the series of a study for the roles that a model needs. Uses headers only, no pixels."""

from collections.abc import Collection
from dataclasses import dataclass

from models.labels import Role
from pipeline.candidates import Candidate, first_difference, list_candidates, ranked_for
from pipeline.classify import Classification
from pipeline.combine_diffusion import CannotCombine, combine_diffusion
from pipeline.diffusion import is_derivable
from pipeline.join import join_series, unjoined_parts
from pipeline.missing_roles import TITLES, name_of, names_of, near_misses, no_source_of_adc
from pipeline.remarks import Remark, RemarkKind
from pipeline.rules import Effect, Rules, load_rules
from pipeline.study import Series, Study

__all__ = ["Choice", "Explained", "NotEligible", "Rules", "Selected", "choose", "explain", "load_rules"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The series chosen for a role."""

    role: Role
    series: Series
    why: tuple[str, ...]
    """Reasons for people, the deciding one first; no text from headers."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about the choice."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A study with a series for every required role, in the order in which they were given."""

    choices: tuple[Choice, ...]
    absent: tuple[Role, ...] = ()
    """The optional roles that the study lacks."""
    why_absent: str = ""
    """A clause for people: which series was nearest to them; empty if none is absent. No text from headers."""

    def series(self, role: Role) -> Series:
        """Return the series chosen for a role. Raises KeyError."""
        for choice in self.choices:
            if choice.role is role:
                return choice.series
        raise KeyError(role)

    def why(self, role: Role) -> tuple[str, ...]:
        """Return the reasons for that series. Raises KeyError."""
        for choice in self.choices:
            if choice.role is role:
                return choice.why
        raise KeyError(role)


@dataclass(frozen=True, slots=True)
class NotEligible:
    """A study that lacks a required role. This is no failure: most studies are of something else."""

    reason: str
    missing: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A series with its classification and the decision on it."""

    series: Series
    classification: Classification
    taken_for: Role | None
    """The role that it would be chosen for."""
    ruled_out: tuple[str, ...]
    """Why it is not chosen for its role; empty if it is."""
    note: str = ""
    """What else it can be used for."""


def choose(
    study: Study,
    wanted: tuple[Role, ...],
    rules: Rules,
    derive_adc: bool = True,
    optional: Collection[Role] = (),
) -> Selected | NotEligible:
    """Choose the series of a study for the wanted roles; return NotEligible if one that is not optional has none.

    The choice does not depend on the order of files. If there is no ADC map and `derive_adc` allows it, a diffusion
    series with b = 0 and b around 1000 is chosen instead; `pipeline.read` computes the map.
    """
    joined = join_series(study)
    candidates = list_candidates(joined, rules)
    choices: list[Choice] = []
    lacking: list[Role] = []
    for role in wanted:
        ranked = ranked_for(candidates, role)
        derived = _derived_adc(candidates, joined) if role is Role.ADC and not ranked and derive_adc else None
        if derived is not None:
            choices.append(derived)
        elif ranked:
            best = ranked[0].series
            choices.append(Choice(role, best, _reasons(ranked, role), _remarks(role, best, joined)))
        else:
            lacking.append(role)
    missing = [role for role in lacking if role not in optional]
    if missing:
        return NotEligible(_why_missing(missing, candidates, study, derive_adc), tuple(missing))
    why_absent = _why_missing(lacking, candidates, study, derive_adc) if lacking else ""
    return Selected(tuple(choices), tuple(lacking), why_absent)


def _derived_adc(candidates: tuple[Candidate, ...], joined: Study) -> Choice | None:
    """Return the diffusion images that an ADC map is computed from, of one series or of several that fit together."""
    sources = _diffusion(candidates)
    if sources:
        series = sources[0].series
        why = "there is no ADC map; it is computed from this diffusion series"
        return Choice(Role.ADC, series, (why, *_reasons(sources, Role.DWI)), _remarks(Role.ADC, series, joined))
    combined = combine_diffusion(_combinable(candidates))
    if not isinstance(combined, Series):
        return None
    parts = names_of(combined.joined)
    return Choice(
        Role.ADC,
        combined,
        (
            "there is no ADC map; it is computed from the diffusion images of "
            + " and ".join(name_of(part) for part in combined.joined),
        ),
        (Remark(RemarkKind.JOINED, f"ADC was computed from diffusion images that came as {parts}.", (Role.ADC,)),),
    )


def _remarks(role: Role, series: Series, joined: Study) -> tuple[Remark, ...]:
    texts = []
    if series.joined:
        texts.append(f"{role}: the parts of one acquisition came as {names_of(series.joined)} and were read together.")
    if others := unjoined_parts(series, joined):
        texts.append(
            f"{role}: the slices of {names_of((series, *others))} make one stack, but nothing shows that they are one "
            f"acquisition; only {names_of((series,))} was read."
        )
    return tuple(Remark(RemarkKind.JOINED, text, (role,)) for text in texts)


def _why_missing(missing: list[Role], candidates: tuple[Candidate, ...], study: Study, derive_adc: bool) -> str:
    classified = [(one.series, one.classification) for one in candidates]
    clauses = [clause for role in missing for clause in near_misses(role, classified)]
    if Role.ADC in missing:
        combined = combine_diffusion(_combinable(candidates))
        source = _derived_adc(candidates, study)
        allowed = source.series if source is not None and not derive_adc else None
        clauses += no_source_of_adc(classified, combined if isinstance(combined, CannotCombine) else None, allowed)
    titles = " and no ".join(TITLES[role] for role in missing)
    return "; ".join((f"no {titles} among {len(study.series)} series", *clauses))


def explain(study: Study, rules: Rules) -> tuple[Explained, ...]:
    """Return every series with its evidence and the role that it would be chosen for, or why it would not.

    Series that are read as one acquisition are one entry.
    """
    joined = join_series(study)
    candidates = list_candidates(joined, rules)
    ranked = {role: ranked_for(candidates, role) for role in Role}
    derived = None if ranked[Role.ADC] else _derived_adc(candidates, joined)
    explained: list[Explained] = []
    for candidate in candidates:
        note = _note(candidate.series, derived)
        role = candidate.classification.role
        best = ranked[role][0] if role is not None and ranked[role] else None
        if best is candidate:
            explained.append(Explained(candidate.series, candidate.classification, role, (), note))
            continue
        ruled_out = _ruled_out(candidate, best)
        explained.append(Explained(candidate.series, candidate.classification, None, ruled_out, note))
    return tuple(explained)


def _note(series: Series, derived: Choice | None) -> str:
    """Return what a series is besides: a part of what is read as one, or the source of a computed ADC map."""
    notes = [f"read as one acquisition: {names_of(series.joined)}"] if series.joined else []
    if derived is not None and derived.series is series:
        notes.append("there is no ADC map; one can be computed from this series")
    elif derived is not None and any(part is series for part in derived.series.joined):
        notes.append(f"there is no ADC map; one can be computed from {names_of(derived.series.joined)} together")
    return "; ".join(notes)


def _ruled_out(candidate: Candidate, best: Candidate | None) -> tuple[str, ...]:
    found = candidate.classification
    excluded = (*found.mark_names(Effect.NONE), *found.mark_names(Effect.REFUSE))
    if excluded:
        return excluded
    if found.role is None:
        return ("nothing says clearly what it is",) if found.evidence else ("nothing says what it is",)
    assert best is not None
    why = first_difference(best, candidate, found.role)
    return (f"series {best.series.series_number} is better for {found.role}: {why}",)


def _diffusion(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Return the diffusion series from which an ADC map can be computed, the best first."""
    return [one for one in ranked_for(candidates, Role.DWI) if is_derivable(one.series)]


def _combinable(candidates: tuple[Candidate, ...]) -> list[Series]:
    """Return the series whose diffusion-weighted images may be used together: all that nothing rules out."""
    return [
        one.series
        for one in candidates
        if one.classification.role is not Role.ADC
        and not one.classification.mark_names(Effect.NONE)
        and not one.classification.mark_names(Effect.REFUSE)
    ]


def _reasons(ranked: list[Candidate], role: Role) -> tuple[str, ...]:
    best = ranked[0]
    reasons = [f"{TITLES[role]} with confidence {best.classification.confidence:.2f}"]
    if best.series.joined:
        reasons.append(f"one acquisition in {' and '.join(name_of(part) for part in best.series.joined)}")
    reasons += [
        f"before series {other.series.series_number}: {first_difference(best, other, role)}" for other in ranked[1:]
    ]
    reasons += [item.text for item in best.classification.evidence if dict(item.weights).get(role)]
    return tuple(reasons)
