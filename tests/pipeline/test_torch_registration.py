"""The engine in PyTorch finds known motions, the same bits each time, and says where there is nothing to find."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import Role
from pipeline.head_box import head_box
from pipeline.likeness import coarse
from pipeline.registration import Engine, FixedHead, Registered
from pipeline.simpleitk_registration import SimpleItkEngine
from pipeline.torch_registration import TorchEngine
from pipeline.volume import Volume
from tests.support.tissue_head import (
    ADC_VALUES,
    FLAIR_VALUES,
    GRID,
    T1CE_VALUES,
    error_mm,
    motion_of,
    moved,
    scan,
)

T1CE = scan(T1CE_VALUES, GRID)
MOVING = {Role.FLAIR: scan(FLAIR_VALUES), Role.ADC: scan(ADC_VALUES)}
MOTION = motion_of([4.0, -3.0, 5.0], [3.0, -4.0, 2.0])


@pytest.fixture(scope="module")
def fixed() -> FixedHead:
    box = head_box(torch.from_numpy(T1CE.pixels), T1CE.geometry)
    return FixedHead(T1CE, Role.T1CE, coarse(T1CE, Role.T1CE, 3.0), box)


@pytest.fixture(scope="module")
def engine(fixed: FixedHead) -> TorchEngine:
    return TorchEngine(fixed, torch.device("cpu"))


def registered(engine: Engine, volume: Volume, start: NDArray[np.float64] | None = None) -> Registered:
    found = engine.register(volume, np.eye(4) if start is None else start)
    assert found is not None
    return found


@pytest.mark.parametrize("role", MOVING)
def test_a_motion_is_found(engine: TorchEngine, role: Role) -> None:
    found = registered(engine, moved(MOVING[role], MOTION))
    assert error_mm(found.matrix, MOTION) < 0.5
    assert found.gain > 0.1


@pytest.mark.parametrize("name", ["torch", "simpleitk"])
def test_angles_and_shift_say_what_the_matrix_does(fixed: FixedHead, engine: TorchEngine, name: str) -> None:
    found = registered(engine if name == "torch" else SimpleItkEngine(fixed), moved(MOVING[Role.FLAIR], MOTION))
    x, y, z = found.rotation_deg
    # The angles are those of ITK's Euler3DTransform: about y first, then x, then z.
    np.testing.assert_allclose(found.matrix[:3, :3], Rotation.from_euler("yxz", (y, x, z), degrees=True).as_matrix())
    centre = fixed.centre_mm
    np.testing.assert_allclose(found.matrix[:3, :3] @ centre + found.matrix[:3, 3], centre + found.translation_mm)


@pytest.mark.parametrize("role", MOVING)
def test_a_head_that_did_not_move_stays(engine: TorchEngine, role: Role) -> None:
    assert error_mm(registered(engine, MOVING[role]).matrix, np.eye(4)) < 0.5


def test_the_search_begins_at_the_given_motion(engine: TorchEngine) -> None:
    far = motion_of([10.0, 5.0, -20.0], [20.0, 10.0, -15.0])
    found = registered(engine, moved(MOVING[Role.FLAIR], MOTION @ far), far)
    assert error_mm(found.matrix, MOTION @ far) < 0.5


@pytest.mark.parametrize("role", MOVING)
def test_the_same_bits_come_out_with_any_number_of_threads(fixed: FixedHead, role: Role) -> None:
    volume, before, found = moved(MOVING[role], MOTION), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(registered(TorchEngine(fixed, torch.device("cpu")), volume))
    finally:
        torch.set_num_threads(before)
    assert len({(each.matrix.tobytes(), each.gain) for each in found}) == 1


def test_no_motion_is_found_where_nothing_overlaps(engine: TorchEngine) -> None:
    assert engine.register(MOVING[Role.FLAIR], motion_of([0, 0, 0], [0, 0, 1000.0])) is None


def test_a_series_of_one_slice_is_no_reason_to_fail(engine: TorchEngine) -> None:
    flair = MOVING[Role.FLAIR]
    slice_ = Volume(flair.pixels[15:16], flair.geometry.cropped((slice(15, 16), slice(0, 66), slice(0, 60))))
    assert engine.register(slice_, np.eye(4)) is None
