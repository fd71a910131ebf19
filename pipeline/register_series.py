"""Find where each series of a study lies against the reference series."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch

from models.labels import Role
from pipeline.align_settings import AlignSettings
from pipeline.alignment import RoleAlignment
from pipeline.errors import PlaceUncertain
from pipeline.head_box import Box
from pipeline.likeness import Comparison, coarse
from pipeline.reference import reference_of
from pipeline.registration import Engine, FixedHead
from pipeline.registration_gate import Pair, Unplaced, contradict, place, place_by_partner, taken_back
from pipeline.remarks import Remark, RemarkKind
from pipeline.volume import IDENTITY, Volume

_CPU = torch.device("cpu")
_ROUGH_MM, _FINE_MM = 8.0, 3.0
_LARGE_SHIFT_MM, _LARGE_ROTATION_DEG = 20.0, 15.0
"""Motions above these are told to the reader: patients hardly move so far between two series."""


def register_series(
    volumes: Mapping[Role, Volume],
    roles: tuple[Role, ...],
    box: Box,
    settings: AlignSettings,
    device: torch.device = _CPU,
) -> tuple[RoleAlignment, ...]:
    """Return the alignment of each of `roles` with the reference, whose head lies in `box`; searched on `device`.

    Raises PlaceUncertain where neither the scanner's coordinates nor a registration is believed.
    """
    reference = reference_of(volumes)
    fixed = volumes[reference]
    if not settings.enabled:
        return tuple(_scanner_geometry(role) for role in roles)
    if not roles:
        return ()
    rough, fine = coarse(fixed, reference, _ROUGH_MM), coarse(fixed, reference, _FINE_MM)
    at_resolution = fine if settings.resolution_mm == _FINE_MM else coarse(fixed, reference, settings.resolution_mm)
    head = FixedHead(fixed, reference, at_resolution, box)
    engines = _engines(head, settings, device)

    def pair_of(role: Role) -> Pair:
        moving = coarse(volumes[role], role, _FINE_MM)
        roughly = Comparison(rough, coarse(volumes[role], role, _ROUGH_MM), device)
        same = _same_frame(volumes[role], fixed)
        finely = Comparison(fine, moving, device)
        return Pair(role, volumes[role], moving, head, engines, roughly, finely, same, settings)

    with ThreadPoolExecutor(max_workers=len(roles)) as pool:
        ready = pool.submit(engines[0])
        pairs = tuple(pool.map(pair_of, roles))
        ready.result()
        outcomes = dict(zip(roles, pool.map(place, pairs), strict=True))
    _take_back_contradictions(pairs, outcomes)
    return tuple(_settled(pair, pairs, outcomes) for pair in pairs)


def _engines(head: FixedHead, settings: AlignSettings, device: torch.device) -> tuple[Callable[[], Engine], ...]:
    """Return what makes the engines, that of the settings first; each is made once, when it is first needed."""

    @cache
    def by_torch() -> Engine:
        from pipeline.torch_registration import TorchEngine

        return TorchEngine(head, device)

    @cache
    def by_simpleitk() -> Engine:
        from pipeline.simpleitk_registration import SimpleItkEngine  # takes a second to load

        return SimpleItkEngine(head)

    return (by_torch, by_simpleitk) if settings.engine == "torch" else (by_simpleitk, by_torch)


def alignment_remarks(volumes: Mapping[Role, Volume], alignments: tuple[RoleAlignment, ...]) -> tuple[Remark, ...]:
    """Return what a reader must know: large motions, and coordinates that were used though they mean nothing."""
    remarks = []
    reference = reference_of(volumes)
    for each in alignments:
        shift, turn = float(np.linalg.norm(each.translation_mm)), max(map(abs, each.rotation_deg))
        same, text = _same_frame(volumes[each.role], volumes[reference]), ""
        if each.kept and (shift > _LARGE_SHIFT_MM or turn > _LARGE_ROTATION_DEG):
            why = "" if same else ", as the scanner gives them no common coordinates"
            moved = f"moved by {shift:.0f} mm and turned by {turn:.0f} degrees"
            text = f"{each.role} was {moved} to fit {reference}{why}."
        elif not each.kept and not same:
            text = f"{each.role} and {reference} have no common coordinates, and {each.role} was not registered."
        if text:
            remarks.append(Remark(RemarkKind.ALIGNMENT, f"{text} Compare the pictures before use.", (each.role,)))
    return tuple(remarks)


def _settled(pair: Pair, pairs: tuple[Pair, ...], outcomes: Mapping[Role, RoleAlignment | Unplaced]) -> RoleAlignment:
    """Return the alignment of a series, with the help of another one of its frame of reference if it needs that."""
    outcome = outcomes[pair.role]
    if isinstance(outcome, RoleAlignment):
        return outcome
    for partner in pairs:
        found = outcomes[partner.role]
        if isinstance(found, RoleAlignment) and _same_frame(pair.volume, partner.volume):
            placed = place_by_partner(pair, outcome, found)
            if placed is not None:
                return placed
    raise PlaceUncertain(
        f"Series {pair.volume.series_instance_uid} ({pair.role}) cannot be laid on {pair.fixed.role}: {outcome.why}. "
        "Look at both in a viewer. If they show the same head, send both from one examination with the positions that "
        "the scanner gave them; if a patient did move so far, [alignment] in the settings has the bounds.",
        pair.role,
    )


def _take_back_contradictions(pairs: tuple[Pair, ...], outcomes: dict[Role, RoleAlignment | Unplaced]) -> None:
    """Take back the less distinct of two places of series that share a frame of reference and contradict each other."""
    for number, first in enumerate(pairs):
        for second in pairs[number + 1 :]:
            one, other = outcomes[first.role], outcomes[second.role]
            if not isinstance(one, RoleAlignment) or not isinstance(other, RoleAlignment):
                continue
            if _same_frame(first.volume, second.volume) and contradict(first, second, one, other):
                placed = ((first, one), (second, other))
                pair, alignment = min(placed, key=lambda each: each[0].fine.distinctness(np.array(each[1].matrix)))
                outcomes[pair.role] = taken_back(pair, alignment)


def _same_frame(one: Volume, other: Volume) -> bool:
    """Return whether two series say that they share coordinates; two that say nothing do not."""
    uid = one.geometry.frame_of_reference_uid
    return bool(uid) and uid == other.geometry.frame_of_reference_uid


def _scanner_geometry(role: Role) -> RoleAlignment:
    zero = (0.0, 0.0, 0.0)
    return RoleAlignment(role, False, zero, zero, IDENTITY, "registration is switched off in the settings")
