"""Where a series lies is decided by evidence: right or refused, and never wrong in silence."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from models.labels import Role
from pipeline.align_settings import AlignSettings
from pipeline.alignment import RoleAlignment
from pipeline.errors import PlaceUncertain
from pipeline.head_box import head_box
from pipeline.register_series import alignment_remarks, register_series
from pipeline.registration import Registered
from pipeline.remarks import RemarkKind
from pipeline.simpleitk_registration import SimpleItkEngine
from pipeline.torch_registration import TorchEngine
from pipeline.volume import Volume
from tests.support.paths import ROOT
from tests.support.tissue_head import (
    ADC_VALUES,
    CENTRE,
    FLAIR_VALUES,
    FRAME,
    GRID,
    OTHER,
    T1CE_VALUES,
    THICK,
    Points,
    error_mm,
    head,
    motion_of,
    moved,
    scan,
    world_points,
)

SETTINGS = AlignSettings(resolution_mm=5.0)
ENGINES = pytest.mark.parametrize(
    "settings", [SETTINGS, replace(SETTINGS, engine="simpleitk")], ids=["torch", "simpleitk"]
)


def register(settings: AlignSettings = SETTINGS, **moving: Volume) -> tuple[RoleAlignment, ...]:
    volumes = {Role.T1CE: T1CE, **{Role[name]: volume for name, volume in moving.items()}}
    box = head_box(torch.from_numpy(T1CE.pixels), T1CE.geometry)
    return register_series(volumes, tuple(Role[name] for name in moving), box, settings)


T1CE = scan(T1CE_VALUES, GRID)
FLAIR = scan(FLAIR_VALUES)
ADC = scan(ADC_VALUES)
NOISE = np.random.default_rng(1).rayleigh(100, THICK.shape).astype(np.float32)


@ENGINES
@pytest.mark.parametrize(
    ("angles", "shift", "frame"),
    [
        ([12.0, -8.0, 20.0], [25.0, -40.0, 35.0], FRAME),  # 59 mm
        ([12.0, -8.0, 20.0], [25.0, -40.0, 400.0], OTHER),
    ],
)
def test_a_large_motion_is_found(settings: AlignSettings, angles: list[float], shift: list[float], frame: str) -> None:
    motion = motion_of(angles, shift)
    for found in register(settings, FLAIR=moved(FLAIR, motion, frame), ADC=moved(ADC, motion, frame)):
        assert found.kept
        assert error_mm(found.matrix, motion) < 2, found
        assert found.evidence is not None
        assert found.evidence.overlap_after > 0.95
        assert found.evidence.overlap_before < 0.9


@ENGINES
def test_a_motion_in_a_field_of_view_that_stays_is_found(settings: AlignSettings) -> None:
    motion = motion_of([10.0, -5.0, 15.0], [12.0, -10.0, 15.0])
    (found,) = register(settings, FLAIR=scan(FLAIR_VALUES, motion=motion))
    assert error_mm(found.matrix, motion) < 2, found


@pytest.mark.parametrize("part", [slice(10, 22), slice(0, 18), slice(12, 30)])
@pytest.mark.parametrize("frame", [FRAME, OTHER])
def test_a_part_of_a_head_is_laid_right_or_refused(part: slice, frame: str) -> None:
    motion = motion_of([5.0, 3.0, -8.0], [10.0, -20.0, 30.0])
    geometry = THICK.cropped((part, slice(0, 66), slice(0, 60)))
    cut = replace(FLAIR, pixels=FLAIR.pixels[part], geometry=geometry)
    try:
        (found,) = register(FLAIR=moved(cut, motion, frame))
    except PlaceUncertain:
        return
    assert error_mm(found.matrix, motion) < 2, found


@ENGINES
def test_what_lies_on_one_grid_stays_there(settings: AlignSettings) -> None:
    # As brains without skulls that were resampled to one grid: within the head alone, mutual information can be gained
    # by moving the edge of a brain across fluid.
    brain = np.isin(head(world_points(GRID, np.eye(4))), (2, 3, 4))
    flair = scan(FLAIR_VALUES, GRID)
    stripped = replace(flair, pixels=np.where(brain, flair.pixels, 0).astype(np.float32))
    t1ce = replace(T1CE, pixels=np.where(brain, T1CE.pixels, 0).astype(np.float32))
    box = head_box(torch.from_numpy(t1ce.pixels), t1ce.geometry)
    (found,) = register_series({Role.T1CE: t1ce, Role.FLAIR: stripped}, (Role.FLAIR,), box, settings)
    assert error_mm(found.matrix, np.eye(4)) < 1, found


def found_motion(matrix: Points, gain: float) -> Registered:
    angles = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz", degrees=True)
    shift = (matrix @ np.array([*CENTRE, 1.0]))[:3] - CENTRE
    return Registered(matrix, tuple(angles.tolist()), tuple(shift.tolist()), gain)


@pytest.fixture
def registration_finds(monkeypatch: pytest.MonkeyPatch) -> Callable[[Points, float], None]:
    """Make every registration find one motion, with one gain."""

    def finds(matrix: Points, gain: float) -> None:
        found = found_motion(matrix, gain)
        for engine in (TorchEngine, SimpleItkEngine):
            monkeypatch.setattr(engine, "register", lambda *_: found)

    return finds


@pytest.mark.parametrize(
    ("shift", "gain"),
    [
        ([3.0, 0.0, 0.0], 0.019),  # too little
        ([1.0, 0.0, 0.0], 0.2),  # no motion that a registration can tell
        ([8.0, 0.0, 0.0], 0.2),  # gained in the head, lost with the air
        ([0.0, 17.5, 0.0], 0.023),
        ([0.0, 0.0, 90.0], 0.4),
    ],
)
def test_a_registration_without_evidence_is_not_kept(
    registration_finds: Callable[[Points, float], None], shift: list[float], gain: float
) -> None:
    registration_finds(motion_of([0, 0, 0], shift), gain)
    for found in register(FLAIR=FLAIR, ADC=ADC):
        assert not found.kept
        assert "the scanner's geometry is used" in found.why
        np.testing.assert_array_equal(np.array(found.matrix), np.eye(4))


@ENGINES
def test_another_engine_is_asked_where_the_first_gains_but_is_not_believed(
    settings: AlignSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (TorchEngine, SimpleItkEngine) if settings.engine == "torch" else (SimpleItkEngine, TorchEngine)
    found = found_motion(motion_of([0, 0, 0], [0, 17.5, 0.0]), 0.1)
    monkeypatch.setattr(first, "register", lambda *_: found)
    motion = motion_of([0, 4.0, 0], [0, 0, 6.0])
    (placed,) = register(settings, FLAIR=moved(FLAIR, motion))
    assert placed.kept
    assert error_mm(placed.matrix, motion) < 2
    # What the other one finds has to stand the same checks.
    monkeypatch.setattr(second, "register", lambda *_: found)
    (placed,) = register(settings, FLAIR=FLAIR)
    assert not placed.kept


def test_an_engine_is_asked_no_more_than_needed(
    registration_finds: Callable[[Points, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Registered:
        raise AssertionError("SimpleITK is asked")

    for shift, gain in (([1.0, 0.0, 0.0], 0.2), ([0.0, 5.0, 0.0], 0.01)):  # no motion to speak of, no gain to speak of
        registration_finds(motion_of([0, 0, 0], shift), gain)
        monkeypatch.setattr(SimpleItkEngine, "register", refuse)
        (found,) = register(FLAIR=FLAIR)
        assert not found.kept


def test_the_place_to_begin_at_is_searched_once_for_both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def search(*_: object, **__: object) -> Points:
        begun.append("search")
        return np.eye(4)

    monkeypatch.setattr("pipeline.registration_gate.search", search)
    for engine in (TorchEngine, SimpleItkEngine):
        monkeypatch.setattr(engine, "register", lambda *_, name=engine.__name__: begun.append(name))
    with pytest.raises(PlaceUncertain, match="too little overlap"):
        register(FLAIR=moved(FLAIR, np.eye(4), OTHER))
    assert sorted(begun) == ["SimpleItkEngine", "TorchEngine", "search"]


def test_simpleitk_is_not_loaded_before_it_is_asked() -> None:
    code = "import sys, pipeline.align, pipeline.torch_registration; print('SimpleITK' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "False"


def test_neither_header_nor_registration_is_believed(registration_finds: Callable[[Points, float], None]) -> None:
    registration_finds(motion_of([0, 0, 0], [0, 0, 40.0]), 0.1)
    with pytest.raises(
        PlaceUncertain, match=r"Series 1\.9 \(FLAIR\).*with the scanner's coordinates \d+ % of the head"
    ):
        register(FLAIR=moved(FLAIR, motion_of([0, 0, 0], [0, 70.0, 0])))


@pytest.mark.parametrize("pixels", [scan(FLAIR_VALUES, seed=5).pixels, NOISE], ids=["another head", "noise"])
def test_what_is_not_this_head_is_refused_in_another_frame(pixels: NDArray[np.float32]) -> None:
    with pytest.raises(PlaceUncertain, match=r"1\.9 \(FLAIR\).*frame of reference is not known to be T1CE's"):
        register(FLAIR=moved(replace(FLAIR, pixels=pixels), motion_of([0, 0, 0], [0, 0, 30.0]), OTHER))


def test_a_jump_within_one_frame_of_reference_is_refused() -> None:
    with pytest.raises(PlaceUncertain, match=r"1\.9 \(FLAIR\).*out of bounds \(400 mm"):
        register(FLAIR=moved(FLAIR, motion_of([0, 0, 0], [0, 0, 400.0])))


def test_frames_that_nobody_names_are_not_equal() -> None:
    motion = motion_of([0, 0, 5.0], [0, 0, 250.0])
    (found,) = register(FLAIR=moved(FLAIR, motion, ""))
    assert error_mm(found.matrix, motion) < 2


def test_a_series_that_its_partner_confirms_needs_less_of_its_own() -> None:
    # A map of one value inside the brain has no structure, so that a small shift loses little.
    motion = motion_of([4.0, 0, -6.0], [0, 30.0, 200.0])
    flat = scan((0.0, 800, 800, 800, 800, 800), uid="1.8")
    flat = moved(replace(flat, pixels=gaussian_filter(flat.pixels, 2)), motion, OTHER)
    strict = replace(SETTINGS, min_distinctness=0.15)
    with pytest.raises(PlaceUncertain, match=r"1\.8 \(ADC\).*a shift by 4 mm loses"):
        register(strict, ADC=flat)
    _, adc = register(strict, FLAIR=moved(FLAIR, motion, OTHER), ADC=flat)
    assert "agrees with FLAIR" in adc.why
    assert error_mm(adc.matrix, motion) < 6


def test_a_large_motion_is_told_to_the_reader() -> None:
    motion = motion_of([2.0, 0, 0], [0, 0, 250.0])
    volumes = {Role.T1CE: T1CE, Role.FLAIR: moved(FLAIR, motion, OTHER), Role.ADC: ADC}
    alignments = register(FLAIR=volumes[Role.FLAIR], ADC=ADC)
    (remark,) = alignment_remarks(volumes, alignments)
    assert remark.kind is RemarkKind.ALIGNMENT
    assert remark.roles == (Role.FLAIR,)
    assert "FLAIR was moved by 250 mm and turned by 2 degrees" in remark.text


def test_coordinates_that_nobody_checked_are_told_to_the_reader() -> None:
    volumes = {Role.T1CE: T1CE, Role.FLAIR: moved(FLAIR, np.eye(4), OTHER), Role.ADC: ADC}
    alignments = register(AlignSettings(enabled=False), FLAIR=volumes[Role.FLAIR], ADC=ADC)
    (remark,) = alignment_remarks(volumes, alignments)
    assert remark.roles == (Role.FLAIR,)
    assert "no common coordinates" in remark.text


def test_without_t1ce_the_reference_is_named_where_a_series_cannot_be_laid_on_it() -> None:
    noise = replace(FLAIR, pixels=NOISE, series_instance_uid="1.9")
    volumes = {Role.T1: T1CE, Role.T2: moved(noise, np.eye(4), OTHER)}
    box = head_box(torch.from_numpy(T1CE.pixels), T1CE.geometry)
    with pytest.raises(PlaceUncertain, match=r"1\.9 \(T2\) cannot be laid on T1: .*T1's"):
        register_series(volumes, (Role.T2,), box, SETTINGS)
    off = replace(SETTINGS, enabled=False)
    (remark,) = alignment_remarks(volumes, register_series(volumes, (Role.T2,), box, off))
    assert remark.text.startswith("T2 and T1 have no common coordinates, and T2 was not registered.")
