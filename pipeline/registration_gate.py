"""Decide by evidence where a series lies: where its header says, where a registration puts it, or unknown.

Within one frame of reference the scanner's coordinates are believed where the heads overlap, and a registration has to
show that it is better. Between two frames of reference, and where the heads do not overlap, they mean nothing: the
search starts from the heads' centres, and a place is believed only if the heads overlap and every structure fits there,
so that a small shift loses much of the mutual information. If neither is believed, no place is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.align_settings import AlignSettings
from pipeline.alignment import AlignmentEvidence, RoleAlignment, as_matrix
from pipeline.coarse_search import climb_from_identity, search
from pipeline.likeness import Coarse, Comparison, Likeness
from pipeline.registration import Engine, FixedHead, Registered
from pipeline.volume import IDENTITY, Volume

_LEAST_MOTION_MM = 1.5
"""Below this mean motion of the head's surface a registration knows no better than the scanner: where nothing moved, it
finds up to 1 mm, as brightness differs between sequences."""
_LARGE_MOTION_MM = 10.0
"""Above it a registration may have been caught at a wrong place, so more is searched and more evidence is needed."""
_LEAST_SEEN = 0.5
"""Share of a series' head that must lie in the reference's field of view, for a registration to be believed."""
_LEAST_COMMON = 0.2
"""The same for the scanner's coordinates: a reference that was cut may lie where it says all the same."""
_OVERLAP_LOSS = 0.02
"""The overlap of two heads may fall by so much in a registration that is right, as their outlines differ by bone."""
_CONTRADICTION = 1.15
"""The scanner's coordinates are contradicted by a place with so many times their mutual information: a shift by 6 mm
costs an ADC map 15 % of it, and others more."""
_AGREEMENT_MM = 10.0
"""Two series of one frame of reference that were registered independently agree within this."""
_NOWHERE = Registered(np.eye(4), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """A series and the reference series, ready to be compared and registered."""

    role: Role
    volume: Volume
    moving: Coarse
    """The series with voxels of about 3 mm."""
    fixed: FixedHead
    engines: tuple[Callable[[], Engine], ...]
    """What registers, in the order in which it is asked; made when it is."""
    rough: Comparison
    """With voxels of about 8 mm, to search."""
    fine: Comparison
    """With voxels of about 3 mm, to decide: with larger ones a shift by 4 mm loses little on an ADC map."""
    same_frame: bool
    """Whether the frames of reference are known and equal."""
    settings: AlignSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that the series may have, with its evidence."""

    registered: Registered
    likeness: Likeness
    moved_mm: float
    """Mean motion of points on the head's surface against the scanner's coordinates."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A series for which no place is believed."""

    header: Candidate
    found: Candidate | None
    why: str
    """What speaks against the header and against what registration found."""


def place(pair: Pair) -> RoleAlignment | Unplaced:
    """Return where the series lies, with the evidence, or why no place is believed.

    Where what an engine finds gains, but is not believed, the next engine is asked; what it finds counts if it is
    believed.
    """
    header = _candidate(pair, _NOWHERE)
    if pair.same_frame and not pair.moving.head.any():
        return _believed(header, None, pair.role, "the series shows no head")  # which its coverage tells
    trusted = pair.same_frame and _heads_agree(header.likeness, pair.settings, _LEAST_COMMON)
    near = trusted and _motion_mm(climb_from_identity(pair.rough), np.eye(4), pair) <= _LARGE_MOTION_MM
    searched = cache(lambda: search(pair.rough, pair.fine, identity_too=True))
    first: RoleAlignment | Unplaced | None = None
    for engine in pair.engines:
        outcome, doubtful = _place_by(engine(), pair, header, trusted, searched, near_first=near)
        if first is None or (isinstance(outcome, RoleAlignment) and outcome.kept):
            first = outcome
        if not doubtful:
            break
    assert first is not None, "there is an engine"
    return first


def _place_by(
    engine: Engine,
    pair: Pair,
    header: Candidate,
    trusted: bool,
    searched: Callable[[], NDArray[np.float64]],
    near_first: bool,
) -> tuple[RoleAlignment | Unplaced, bool]:
    """Return where the series lies by what one engine finds, and whether another one may find better.

    `trusted` says whether the header's place may be right, `near_first` whether the engine begins there; otherwise, and
    where that fails, it begins at what `searched` returns.
    """
    if near_first:
        near = _registered(pair, engine, np.eye(4))
        if near is not None and near.moved_mm <= _LARGE_MOTION_MM:
            if (fault := _fault(near, header, pair, strict=False)) is None:
                return _kept(pair, header, near), False
            if not _contradicts(near, header):
                return _believed(header, near, pair.role, fault), _claims_more(near, pair.settings)
    found = _registered(pair, engine, searched())
    if found is None:
        fault = "registration found too little overlap of the two series"
    elif (fault := _fault(found, header, pair, strict=True)) is None:
        return _kept(pair, header, found), False
    if trusted and not (found is not None and _contradicts(found, header)):
        return _believed(header, found, pair.role, fault), found is None or _claims_more(found, pair.settings)
    return Unplaced(header, found, f"{_against_header(pair, header, found)}, and {fault}"), True


def _claims_more(found: Candidate, settings: AlignSettings) -> bool:
    """Return whether a place gains so much, so far from the header's, that it counts if it stands the other checks."""
    return found.registered.gain >= settings.min_gain and found.moved_mm >= _LEAST_MOTION_MM


def place_by_partner(pair: Pair, unplaced: Unplaced, partner: RoleAlignment) -> RoleAlignment | None:
    """Return where the series lies if it is where a series of its frame of reference was found; else None.

    The two were registered independently, so that their agreement is the evidence that one of them lacks alone.
    """
    start = np.array(partner.matrix)
    found = _registered(pair, pair.engines[0](), start)
    if found is None or _motion_mm(found.registered.matrix, start, pair) > _AGREEMENT_MM:
        return None
    best = unplaced.found.likeness.information if unplaced.found is not None else 0.0
    if not _heads_agree(found.likeness, pair.settings, _LEAST_SEEN) or found.likeness.information < 0.9 * best:
        return None
    if _out_of_bounds(found, pair):
        return None
    return _kept(pair, unplaced.header, found, f"; it agrees with {partner.role.value}, of the same frame of reference")


def contradict(first: Pair, second: Pair, one: RoleAlignment, other: RoleAlignment) -> bool:
    """Return whether two series of one frame of reference were placed so that they contradict each other.

    A patient may move between two series: then they fit each other better where they were placed than where the
    scanner's coordinates have them.
    """
    to_first, to_second = np.array(one.matrix), np.array(other.matrix)
    if _motion_mm(to_first, to_second, first) <= _AGREEMENT_MM:
        return False
    direct = Comparison(first.moving, second.moving)
    between = direct.at(to_second @ np.linalg.inv(to_first))
    return between.information < direct.at(np.eye(4)).information


def taken_back(pair: Pair, alignment: RoleAlignment) -> Unplaced:
    """Return that a place is not believed because another series of the same frame of reference contradicts it."""
    matrix = np.array(alignment.matrix)
    found = _candidate(pair, Registered(matrix, alignment.rotation_deg, alignment.translation_mm, 0.0))
    why = "where registration puts it contradicts another series of the same frame of reference"
    return Unplaced(_candidate(pair, _NOWHERE), found, why)


def _candidate(pair: Pair, registered: Registered) -> Candidate:
    return Candidate(registered, pair.fine.at(registered.matrix), _motion_mm(registered.matrix, np.eye(4), pair))


def _registered(pair: Pair, engine: Engine, start: NDArray[np.float64]) -> Candidate | None:
    registered = engine.register(pair.volume, start)
    return _candidate(pair, registered) if registered is not None else None


def _motion_mm(motion: NDArray[np.float64], other: NDArray[np.float64], pair: Pair) -> float:
    """Return the mean distance between where two motions take points on the head's surface."""
    points = pair.fixed.surface_points
    return float(np.linalg.norm(((motion - other) @ points)[:3], axis=0).mean())


def _heads_agree(likeness: Likeness, settings: AlignSettings, least_seen: float) -> bool:
    return likeness.overlap >= settings.min_overlap and likeness.seen >= least_seen


def _contradicts(found: Candidate, header: Candidate) -> bool:
    """Return whether a place fits so much better than the header's that the header cannot be right."""
    return found.likeness.information >= _CONTRADICTION * header.likeness.information


def _out_of_bounds(found: Candidate, pair: Pair) -> bool:
    registered, settings = found.registered, pair.settings
    shift = float(np.linalg.norm(registered.translation_mm))
    # Between two frames of reference a shift is no motion: their origins differ.
    return max(map(abs, registered.rotation_deg)) > settings.max_rotation_deg or (
        pair.same_frame and shift > settings.max_translation_mm
    )


def _fault(found: Candidate, header: Candidate, pair: Pair, strict: bool) -> str | None:
    """Return what speaks against a place that registration found; None if it is believed."""
    settings, gain = pair.settings, found.registered.gain
    if pair.same_frame and not _claims_more(found, settings):
        return f"mutual information gained {gain:.3f} by a motion of {found.moved_mm:.1f} mm: too little"
    if _out_of_bounds(found, pair):
        return f"mutual information gained {gain:.3f}, but the motion is out of bounds ({_motion_words(found)})"
    least = max(settings.min_overlap, header.likeness.overlap - _OVERLAP_LOSS if pair.same_frame else 0.0)
    if (overlap := min(found.likeness.overlap, found.likeness.seen / _LEAST_SEEN)) < least:
        return f"where registration puts it, {_percent(overlap)} of the heads overlap, and {_percent(least)} are needed"
    if found.likeness.information < header.likeness.information:
        return f"mutual information gained {gain:.3f} in the head, but it lost some with all of the air around it"
    if strict and (distinct := pair.fine.distinctness(found.registered.matrix)) < settings.min_distinctness:
        return (
            f"where registration puts it, a shift by 4 mm loses {_percent(distinct)} of the mutual information, but "
            f"the same head would lose {_percent(settings.min_distinctness)} at least"
        )
    return None


def _kept(pair: Pair, header: Candidate, found: Candidate, more: str = "") -> RoleAlignment:
    registered = found.registered
    frames = "" if pair.same_frame else "; the frames of reference differ"
    words = (
        f"mutual information gained {registered.gain:.3f}; the heads overlap by {_percent(found.likeness.overlap)}, "
        f"{_percent(header.likeness.overlap)} before{frames}{more}"
    )
    evidence = AlignmentEvidence(header.likeness.overlap, found.likeness.overlap, registered.gain)
    matrix = as_matrix(registered.matrix)
    return RoleAlignment(pair.role, True, registered.rotation_deg, registered.translation_mm, matrix, words, evidence)


def _believed(header: Candidate, found: Candidate | None, role: Role, fault: str) -> RoleAlignment:
    """Return the alignment by the scanner's coordinates, which the overlap of the heads confirms."""
    overlap, zero = header.likeness.overlap, (0.0, 0.0, 0.0)
    words = f"{fault}; the scanner's geometry is used, in which the heads overlap by {_percent(overlap)}"
    gain = found.registered.gain if found is not None else 0.0
    return RoleAlignment(role, False, zero, zero, IDENTITY, words, AlignmentEvidence(overlap, overlap, gain))


def _against_header(pair: Pair, header: Candidate, found: Candidate | None) -> str:
    if not pair.same_frame:
        return (
            f"its frame of reference is not known to be {pair.fixed.role}'s, so that its coordinates mean nothing there"
        )
    if not _heads_agree(header.likeness, pair.settings, _LEAST_COMMON):
        seen = header.likeness.overlap if header.likeness.seen >= _LEAST_COMMON else header.likeness.seen
        return f"with the scanner's coordinates {_percent(seen)} of the head lie in {pair.fixed.role}'s"
    more = found.moved_mm if found is not None else 0.0
    return f"a place {more:.0f} mm from where its header says fits {pair.fixed.role} much better"


def _motion_words(found: Candidate) -> str:
    shift = float(np.linalg.norm(found.registered.translation_mm))
    return f"{shift:.0f} mm, {max(map(abs, found.registered.rotation_deg)):.0f} degrees"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
