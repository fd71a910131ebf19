"""Measure how registration answers to random motions of whole heads, and to real heads of which nothing moved.

    python -m benchmarks.registration_motion [--motions 60] [--processes 2] [--trial STUDY] [--real FOLDER]

FLAIR and ADC of phantoms, and of the trial study if it is there, are turned by up to 25 degrees and shifted by up to
60 mm, each on its own; half of them in T1CE's frame of reference, half in others, of which every second has its origin
up to 400 mm away. Motions are applied to the geometry in memory. An alignment is right within 2 mm, on average over the
head. The real heads of FOLDER, each with a folder `dicom`, stand on one grid, so that the identity is the truth.
"""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import Role
from models.training.synthetic.head import synthesise
from models.training.synthetic.tumour import Variant
from pipeline.align_settings import DEFAULT_SETTINGS
from pipeline.choose import NotEligible, choose
from pipeline.errors import PlaceUncertain
from pipeline.head_box import head_box
from pipeline.likeness import coarse
from pipeline.read import read_volume
from pipeline.register_series import register_series
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Geometry, Volume
from plugin.demo.phantom_protocols import phantom_protocols
from tests.support.paths import ROOT

MOVING = (Role.FLAIR, Role.ADC)
PHANTOMS = ((31, Variant.UNIFOCAL), (32, Variant.RESECTED), (33, Variant.MULTIFOCAL), (34, Variant.LESION_FREE))
RIGHT_MM = 2.0
MOST_DEG, MOST_MM, OFFSET_MM = 25.0, 60.0, 400.0
DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Head:
    """The volumes of one study, and where its moving series truly lie."""

    name: str
    volumes: dict[Role, Volume]
    truth: dict[Role, NDArray[np.float64]]
    """4 x 4, from T1CE's world to that of the series."""


@dataclass(frozen=True)
class Trial:
    """One motion of one study, and what became of each series."""

    head: str
    number: int
    frames: str
    turned_deg: float
    shifted_mm: float
    outcome: dict[str, str]
    """right, refused, WRONG; for each role."""
    error_mm: dict[str, float]
    why: str


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motions", type=int, default=60)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trial", type=Path, default=DATA / "semireal" / "siemens-unifocal")
    parser.add_argument("--real", type=Path, default=DATA / "real-tumour")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [*(f"phantom {seed} {variant.value}" for seed, variant in PHANTOMS)]
    names += [str(options.trial)] if options.trial.is_dir() else []
    with ProcessPoolExecutor(options.processes) as pool:
        work = [(name, number, options.motions) for name in names for number in range(options.motions)]
        mine = [each for each in work if each[1] % len(names) == names.index(each[0])]
        trials = list(pool.map(run, mine))
        folders = sorted(path for path in options.real.glob("*") if (path / "dicom").is_dir())
        rows = [row for rows in pool.map(unmoved, folders) for row in rows]
    print_trials(trials)
    print_unmoved(rows)
    if options.json:
        options.json.write_text(
            json.dumps({"motions": [asdict(each) for each in trials], "real": rows}, indent=1) + "\n"
        )


_heads: dict[str, Head] = {}


def head_named(name: str) -> Head:
    """Return a phantom, or the trial study, once made or read for each process."""
    if name not in _heads:
        _heads[name] = phantom(name) if name.startswith("phantom ") else trial(Path(name))
    return _heads[name]


def phantom(name: str) -> Head:
    """Scan a synthetic head as `glionode phantom` does."""
    _, seed, variant = name.split()
    head, volumes, truth = synthesise(int(seed), Variant(variant)), {}, {}
    for number, protocol in enumerate(phantom_protocols(int(seed), "1.2.3.4")):
        if protocol.wanted:
            volumes[protocol.role] = head.acquire(protocol.role, protocol.geometry, protocol.motion, number)
            truth[protocol.role] = np.array(protocol.motion) if protocol.motion else np.eye(4)
    return Head(name, volumes, truth)


def trial(folder: Path) -> Head:
    """Read the trial study; its truth.json has the motion from each series to T1CE, about the middle of T1CE."""
    volumes = read(folder)
    centre, truth = np.array(volumes[Role.T1CE].geometry.centre_mm), {}
    document = json.loads((folder / "truth.json").read_text())
    for role in MOVING:
        parameters = np.array(document[f"motion_{role.value.lower()}"])
        truth[role] = np.linalg.inv(about(centre, np.degrees(parameters[:3]), parameters[3:]))
    return Head("trial study", volumes, truth)


def read(folder: Path) -> dict[Role, Volume]:
    """Choose and read the series of a study as the node does."""
    (study,) = scan([folder / "dicom"]).studies
    selected = choose(study, (Role.T1CE, *MOVING), load_rules())
    if isinstance(selected, NotEligible):
        raise SystemExit(f"{folder}: {selected.reason}")
    return {role: read_volume(selected.series(role), role) for role in (Role.T1CE, *MOVING)}


def about(
    centre: NDArray[np.float64], angles_deg: NDArray[np.float64], shift_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the motion that turns about `centre`, about x, y and z in this order, and then shifts."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = centre + shift_mm - matrix[:3, :3] @ centre
    return matrix


def run(job: tuple[str, int, int]) -> Trial:
    """Move FLAIR and ADC of a study, register them, and compare with the truth."""
    name, number, motions = job
    head, generator = head_named(name), np.random.default_rng([number, 2026])
    volumes, truth, same = dict(head.volumes), {}, number < motions / 2
    turned = shifted = 0.0
    for role in MOVING:
        angle, length = generator.uniform(0, (MOST_DEG, MOST_MM))
        turn = Rotation.from_rotvec(angle * direction(generator), degrees=True).as_euler("xyz", degrees=True)
        shift = length * direction(generator)
        if not same and number % 2:
            shift = shift + generator.uniform(0, OFFSET_MM) * direction(generator)
        move = about(np.array(volumes[Role.T1CE].geometry.centre_mm), turn, shift)
        geometry = volumes[role].geometry
        frame = geometry.frame_of_reference_uid + ("" if same else f".{role.value == 'ADC':d}")
        moved = Geometry.from_affine(move @ geometry.affine, geometry.shape, frame)
        volumes[role] = replace(volumes[role], geometry=moved)
        truth[role] = move @ head.truth[role]
        turned, shifted = max(turned, float(angle)), max(shifted, float(np.linalg.norm(shift)))
    outcome, error, words = {}, {}, []
    for role, found, why in registered(volumes):
        outcome[role.value] = "refused"
        if found is not None:
            error[role.value] = error_mm(volumes[Role.T1CE], found, truth[role])
            outcome[role.value] = "right" if error[role.value] <= RIGHT_MM else "WRONG"
        words.append(why)
    frames = "equal" if same else "different"
    result = Trial(head.name, number, frames, turned, shifted, outcome, error, " | ".join(words))
    print(result, flush=True)
    return result


def direction(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a random unit vector."""
    vector = generator.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def registered(volumes: dict[Role, Volume]) -> Iterator[tuple[Role, NDArray[np.float64] | None, str]]:
    """Yield each role with its alignment, or None where it was refused, and why."""
    t1ce = volumes[Role.T1CE]
    box = head_box(torch.from_numpy(t1ce.pixels), t1ce.geometry)
    for role in MOVING:
        try:
            (found,) = register_series(volumes, (role,), box, DEFAULT_SETTINGS)
            yield role, np.array(found.matrix), found.why
        except PlaceUncertain as exc:
            yield role, None, str(exc)


def error_mm(t1ce: Volume, found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the mean distance between where two motions take the voxels of T1CE's head."""
    averaged = coarse(t1ce, Role.T1CE, 8.0)
    index = np.argwhere(averaged.head.numpy()).T
    points = averaged.geometry.affine @ np.vstack([index, np.ones(index.shape[1])])
    return float(np.linalg.norm(((found - truth) @ points)[:3], axis=0).mean())


def unmoved(folder: Path) -> list[dict[str, object]]:
    """Register a study of which nothing moved."""
    volumes = read(folder)
    return [
        {
            "study": folder.name,
            "role": role.value,
            "error_mm": None if found is None else error_mm(volumes[Role.T1CE], found, np.eye(4)),
            "why": why,
        }
        for role, found, why in registered(volumes)
    ]


def print_trials(trials: list[Trial]) -> None:
    """Print how many alignments were right, refused and wrong, for each study and kind of frame."""
    print(f"\n{'study':<28}{'frames':<12}{'series':>8}{'right':>8}{'refused':>9}{'wrong':>7}{'worst right, mm':>17}")
    for head, frames in sorted({(each.head, each.frames) for each in trials}):
        these = [each for each in trials if (each.head, each.frames) == (head, frames)]
        words = [word for each in these for word in each.outcome.values()]
        errors = [each.error_mm[role] for each in these for role, word in each.outcome.items() if word == "right"]
        counts = [words.count(word) for word in ("right", "refused", "WRONG")]
        numbers = f"{len(words):>8}{counts[0]:>8}{counts[1]:>9}{counts[2]:>7}{max(errors, default=0):>17.2f}"
        print(f"{head:<28}{frames:<12}{numbers}")


def print_unmoved(rows: list[dict[str, object]]) -> None:
    """Print how far each real series was moved, though nothing had moved."""
    if rows:
        print(f"\n{'real study':<28}{'series':<8}{'moved, mm':>10}  why")
    for row in rows:
        moved = "refused" if row["error_mm"] is None else f"{row['error_mm']:.2f}"
        print(f"{row['study']:<28}{row['role']:<8}{moved:>10}  {row['why']}")


if __name__ == "__main__":
    main()
