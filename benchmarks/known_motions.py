"""Make heads of which FLAIR and ADC lie at known places against T1CE, for measurements of the alignment.

Motions are applied to the geometry in memory, on top of what moved in the scan; each series is moved on its own.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import Role
from models.training.synthetic.head import synthesise
from models.training.synthetic.tumour import Variant
from pipeline.choose import NotEligible, choose
from pipeline.likeness import coarse
from pipeline.read import read_volume
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Geometry, Volume
from plugin.demo.phantom_protocols import phantom_protocols

MOVING = (Role.FLAIR, Role.ADC)
PHANTOMS = ((31, Variant.UNIFOCAL), (32, Variant.RESECTED), (33, Variant.MULTIFOCAL), (34, Variant.LESION_FREE))


@dataclass(frozen=True)
class Kind:
    """How far a series is moved at most."""

    name: str
    most_deg: float
    most_mm: float
    other_frame: bool = False
    """Whether the moved series has a frame of reference of its own, every second with an origin elsewhere."""


SMALL = Kind("small", 8.0, 10.0)
"""Motions between the series of one examination."""
LARGE = Kind("large", 20.0, 30.0)
FAR = Kind("far", 25.0, 60.0)
ELSEWHERE = Kind("other frame", 25.0, 60.0, other_frame=True)
_OFFSET_MM = 400.0
"""Distance at most of the origins of two frames of reference."""


@dataclass(frozen=True)
class Head:
    """The volumes of one study, and where its moving series truly lie."""

    name: str
    volumes: dict[Role, Volume]
    truth: dict[Role, NDArray[np.float64]]
    """4 x 4, from T1CE's world to that of the series."""

    def moved(self, kind: Kind, number: int) -> "Head":
        """Return the head with motions of a kind; `number` seeds them."""
        generator, volumes, truth = np.random.default_rng([number, 2026]), dict(self.volumes), {}
        for role in MOVING:
            turn = Rotation.from_rotvec(generator.uniform(0, kind.most_deg) * _direction(generator), degrees=True)
            shift = generator.uniform(0, kind.most_mm) * _direction(generator)
            if kind.other_frame and number % 2:
                shift = shift + generator.uniform(0, _OFFSET_MM) * _direction(generator)
            move = _about(np.array(volumes[Role.T1CE].geometry.centre_mm), turn, shift)
            geometry = volumes[role].geometry
            frame = geometry.frame_of_reference_uid + (f".{role.value == 'ADC':d}" if kind.other_frame else "")
            moved = Geometry.from_affine(move @ geometry.affine, geometry.shape, frame)
            volumes[role] = replace(volumes[role], geometry=moved)
            truth[role] = move @ self.truth[role]
        return Head(self.name, volumes, truth)

    def error_mm(self, role: Role, found: NDArray[np.float64]) -> float:
        """Return the mean distance between where `found`, 4 x 4, and the truth take the voxels of T1CE's head."""
        averaged = coarse(self.volumes[Role.T1CE], Role.T1CE, 8.0)
        index = np.argwhere(averaged.head.numpy()).T
        points = averaged.geometry.affine @ np.vstack([index, np.ones(index.shape[1])])
        return float(np.linalg.norm(((found - self.truth[role]) @ points)[:3], axis=0).mean())


def phantom(seed: int, variant: Variant) -> Head:
    """Scan a synthetic head as `glionode phantom` does."""
    head, volumes, truth = synthesise(seed, variant), {}, {}
    for number, protocol in enumerate(phantom_protocols(seed, "1.2.3.4")):
        if protocol.wanted:
            volumes[protocol.role] = head.acquire(protocol.role, protocol.geometry, protocol.motion, number)
            truth[protocol.role] = np.array(protocol.motion) if protocol.motion else np.eye(4)
    return Head(f"phantom {seed} {variant.value}", volumes, truth)


def trial_study(folder: Path) -> Head:
    """Read the trial study; its truth.json has the motion from each series to T1CE, about the middle of T1CE."""
    volumes = _read(folder)
    centre, truth = np.array(volumes[Role.T1CE].geometry.centre_mm), {}
    document = json.loads((folder / "truth.json").read_text())
    for role in MOVING:
        parameters = np.array(document[f"motion_{role.value.lower()}"])
        turn = Rotation.from_euler("xyz", parameters[:3])
        truth[role] = np.linalg.inv(_about(centre, turn, parameters[3:]))
    return Head("trial study", volumes, truth)


def unmoved_study(folder: Path) -> Head:
    """Read a study whose series stand on one grid, so that the identity is the truth."""
    return Head(folder.name, _read(folder), {role: np.eye(4) for role in MOVING})


def _read(folder: Path) -> dict[Role, Volume]:
    """Choose and read the series of a study as the node does."""
    (study,) = scan([folder / "dicom"]).studies
    selected = choose(study, (Role.T1CE, *MOVING), load_rules())
    if isinstance(selected, NotEligible):
        raise SystemExit(f"{folder}: {selected.reason}")
    return {role: read_volume(selected.series(role), role) for role in (Role.T1CE, *MOVING)}


def _about(centre: NDArray[np.float64], turn: Rotation, shift_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the motion that turns about `centre`, and then shifts."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = centre + shift_mm - matrix[:3, :3] @ centre
    return matrix


def _direction(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a random unit vector."""
    vector = generator.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))
