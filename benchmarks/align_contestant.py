"""Align the heads that come on standard input, with the code of the tree that PYTHONPATH names; see benchmarks.align.

    python -P benchmarks/align_contestant.py torch|simpleitk|usual DEVICE

Both ways go pickles of plain values, so that two trees may differ in all but the names used here: first the engine's
name, or None if the tree cannot be told which to use; then, for each {role: (pixels, affine, frame of reference)}, the
seconds of the step and {role: matrix, or why there is none}.
"""

import pickle
import sys
import time
from dataclasses import fields
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from models.labels import Role
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from pipeline.errors import PlaceUncertain
from pipeline.volume import Geometry, Volume

Outcome = dict[str, NDArray[np.float64] | str]
"""For each role the 4 x 4 matrix from T1CE's world to that of the series, or why there is none."""
GRID_MM, STRIDE = 1.0, 16
BINS, SHRINK, SMOOTH_MM, SAMPLED, SEED = 50, [4, 2, 1], [2.0, 1.0, 0.0], 0.1, 1


def main() -> None:
    """Answer until the input ends."""
    engine, device = sys.argv[1], torch.device(sys.argv[2])
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    settable = "engine" in {field.name for field in fields(AlignSettings)}
    settings: dict[str, Any] = {"engine": engine} if settable and engine != "usual" else {}
    pickle.dump(engine if settings or engine == "usual" else None, answers)
    answers.flush()
    while True:
        try:
            heads = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        volumes = {
            Role(role): Volume(pixels, Geometry.from_affine(affine, pixels.shape, frame))
            for role, (pixels, affine, frame) in heads.items()
        }
        started = time.perf_counter()
        outcome = usual(volumes) if engine == "usual" else product(volumes, AlignSettings(**settings), device)
        pickle.dump((time.perf_counter() - started, outcome), answers)
        answers.flush()


def product(volumes: dict[Role, Volume], settings: AlignSettings, device: torch.device) -> Outcome:
    """Align as the node does; where it refuses one series, it tries the others without."""
    outcome: Outcome = {}
    roles = tuple(volumes)
    while len(roles) > 1:
        try:
            aligned = align(volumes, roles, GRID_MM, STRIDE, device, settings)
        except PlaceUncertain as exc:
            if exc.role is None:
                raise
            outcome[exc.role.value] = str(exc)
            roles = tuple(role for role in roles if role is not exc.role)
            continue
        assert np.isfinite(float(aligned.channels.nan_to_num().sum()))  # waits for the device
        return outcome | {each.role.value: np.array(each.matrix) for each in aligned.alignments}
    return outcome


def usual(volumes: dict[Role, Volume]) -> Outcome:
    """Register and resample as SimpleITK's users do: whole volumes, from the scanner's coordinates."""
    fixed = image(volumes[Role.T1CE])
    outcome: Outcome = {}
    for role, volume in volumes.items():
        if role is Role.T1CE:
            continue
        moving = image(volume)
        transform = sitk.Euler3DTransform()
        transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(SAMPLED, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0, minStep=1e-3, numberOfIterations=200, gradientMagnitudeTolerance=1e-6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(SHRINK)
        method.SetSmoothingSigmasPerLevel(SMOOTH_MM)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(fixed, moving)
        except RuntimeError as exc:  # too little overlap
            outcome[role.value] = str(exc).splitlines()[-1]
            continue
        sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
        matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
        outcome[role.value] = matrix
    return outcome


def image(volume: Volume) -> sitk.Image:
    """Convert to SimpleITK's axes, (column, row, slice), with missing values as 0."""
    result = sitk.GetImageFromArray(np.nan_to_num(volume.pixels, nan=0.0))
    spacing = np.array(volume.geometry.spacing_mm)
    result.SetSpacing([float(value) for value in spacing[::-1]])
    result.SetOrigin(volume.geometry.origin_mm)
    result.SetDirection([float(each) for each in (volume.geometry.affine[:3, :3] / spacing)[:, ::-1].ravel()])
    return result


if __name__ == "__main__":
    main()
