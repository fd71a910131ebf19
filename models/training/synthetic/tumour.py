"""Draw position, size and composition of gliomas for the families PAINTED and TEMPLATE, as distance fields."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import norm

from models.training.synthetic.fields import Coordinates, Field, noise

Point = tuple[float, float, float]


class Variant(StrEnum):
    """The kind of lesion in a head."""

    UNIFOCAL = "unifocal"
    """One glioma with an enhancing rim, necrosis and oedema."""
    MULTIFOCAL = "multifocal"
    """Two to four enhancing foci with separate or confluent oedema."""
    SMALL = "small"
    """One enhancing focus of 3 to 7 mm radius with little oedema."""
    NON_ENHANCING = "non_enhancing"
    """A glioma without enhancement: bright on FLAIR, dark on T1CE."""
    LESION_FREE = "lesion_free"
    """No tumour, only age changes of the white matter."""
    RESECTED = "resected"
    """A resection cavity with a complete, broken or absent rim, oedema, and sometimes a nodule next to it."""


@dataclass(frozen=True, slots=True)
class Focus:
    """One tumour focus, before its outline is roughened by noise."""

    lobes: tuple[tuple[Point, float], ...]
    """Centres (x, y, z in mm) and radii (mm) of the balls that make up the focus."""
    rim_mm: float
    """Mean thickness of the enhancing rim. Above the radius the focus is solid; at 0 nothing enhances."""
    infiltration_mm: float
    """Distance by which non-enhancing tumour extends beyond the rim; may be 0."""
    oedema_mm: float
    """Distance by which oedema extends beyond the rim in white matter."""
    absent_rim: float = 0.0
    """Share of the rim that does not enhance, 0 to 1."""
    blood: float = 0.0
    """Share of the interior that is blood, 0 to 1."""
    cavity: bool = False
    """Whether the interior is fluid after resection instead of necrosis."""

    @property
    def centre(self) -> Point:
        """Return the centre of the first and largest lobe."""
        return self.lobes[0][0]

    @property
    def radius_mm(self) -> float:
        """Return the radius of the first and largest lobe."""
        return self.lobes[0][1]


@dataclass(frozen=True, slots=True)
class TumourFields:
    """Distances in millimetres to parts of all foci together, each (slices, rows, columns), negative inside."""

    core: Field
    """To the outline of rim and necrosis."""
    necrosis: Field
    """To the inner face of the rim."""
    infiltration: Field
    """To the outline of non-enhancing tumour."""
    oedema: Field
    """To the outline of oedema, not yet limited to white matter."""
    cavity: Field
    """To the wall of resection cavities."""
    blood: Field
    """Not a distance, but negative inside blood."""
    gaps: Field
    """Not a distance, but negative where a rim does not enhance."""


def draw_foci(generator: np.random.Generator, variant: Variant) -> tuple[Focus, ...]:
    """Draw the foci of a head of this variant, largest first; none for LESION_FREE."""
    if variant is Variant.LESION_FREE:
        return ()
    if variant is Variant.SMALL:
        return (_draw_focus(generator, generator.uniform(3, 7), enhancing=True, oedema_mm=generator.uniform(2, 12)),)
    if variant is Variant.NON_ENHANCING:
        return (_draw_focus(generator, generator.uniform(9, 24), enhancing=False, oedema_mm=generator.uniform(0, 10)),)
    if variant is Variant.UNIFOCAL:
        return (_draw_focus(generator, generator.uniform(8, 26), enhancing=True, oedema_mm=generator.uniform(6, 30)),)
    if variant is Variant.RESECTED:
        return _draw_resection(generator)
    radii = sorted(generator.uniform(4, 17, size=int(generator.integers(2, 5))), reverse=True)
    return tuple(_draw_focus(generator, float(r), enhancing=True, oedema_mm=generator.uniform(5, 18)) for r in radii)


def _draw_resection(generator: np.random.Generator) -> tuple[Focus, ...]:
    radius = float(generator.uniform(7, 22))
    around = _draw_focus(generator, radius, enhancing=True, oedema_mm=generator.uniform(2, 16))
    absent = 1.0 if generator.random() < 0.35 else float(generator.uniform(0, 0.9))
    rim = float(generator.uniform(1.5, 4))
    cavity = replace(around, rim_mm=rim, absent_rim=absent, cavity=True, infiltration_mm=0.5 * around.infiltration_mm)
    if generator.random() < 0.6:
        return (cavity,)
    size = float(generator.uniform(3, 7))
    direction = generator.normal(size=3)
    away = np.array(cavity.centre) + direction / np.linalg.norm(direction) * radius
    nodule = _draw_focus(generator, size, enhancing=True, oedema_mm=generator.uniform(1, 6))
    return (cavity, replace(nodule, lobes=(((float(away[0]), float(away[1]), float(away[2])), size),)))


def _draw_focus(generator: np.random.Generator, radius_mm: float, enhancing: bool, oedema_mm: float) -> Focus:
    centre = _draw_centre(generator)
    lobes = [(centre, radius_mm)]
    for _ in range(int(generator.integers(0, 4))):
        direction = generator.normal(size=3)
        away = np.array(centre) + direction / np.linalg.norm(direction) * radius_mm * generator.uniform(0.4, 0.9)
        lobes.append(
            ((float(away[0]), float(away[1]), float(away[2])), radius_mm * float(generator.uniform(0.45, 0.8)))
        )
    # Thin rims around large necroses and solid nodules are both common.
    rim = float(generator.uniform(1.5, max(3.0, 0.8 * radius_mm))) if generator.random() < 0.8 else 2 * radius_mm
    infiltration = float(generator.uniform(1, 8)) if generator.random() < 0.5 else 0.0
    broken, bled = generator.random() < 0.3, generator.random() < 0.25
    return Focus(
        lobes=tuple(lobes),
        rim_mm=rim if enhancing else 0.0,
        infiltration_mm=infiltration,
        oedema_mm=float(oedema_mm),
        absent_rim=float(generator.uniform(0.1, 0.6)) if broken and radius_mm > 8 else 0.0,
        blood=float(generator.uniform(0.1, 0.6)) if bled else 0.0,
    )


def _draw_centre(generator: np.random.Generator) -> Point:
    """Draw a point in the white matter of a cerebral hemisphere, away from the ventricles."""
    while True:
        x, y, z = (float(value) for value in generator.uniform((14, -68, -22), (54, 70, 56)))
        depth = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + ((z - 8) / 60) ** 2)
        beside_ventricle = x > 20 or abs(y) > 45 or z > 26
        if depth < 0.86 and beside_ventricle:
            return (x if generator.random() < 0.5 else -x, y, z)


def apply_mass_effect(at: Coordinates, foci: tuple[Focus, ...], strength: float) -> Coordinates:
    """Return the coordinates from which to sample anatomy that tumours have displaced (mass effect).

    A point samples the anatomy that was nearer to the focus before. `strength`, 0 to 0.5, is the relative shift at the
    centre; it fades as a Gaussian of 1.4 radii.
    """
    x, y, z = at.x, at.y, at.z
    for focus in foci:
        cx, cy, cz = focus.centre
        dx, dy, dz = at.x - cx, at.y - cy, at.z - cz
        fade = strength * np.exp(-(dx**2 + dy**2 + dz**2) / (2 * (1.4 * focus.radius_mm) ** 2))
        x, y, z = x - dx * fade, y - dy * fade, z - dz * fade
    return Coordinates(x, y, z)


def tumour_fields(
    generator: np.random.Generator, at: Coordinates, foci: tuple[Focus, ...], spacing_mm: float
) -> TumourFields:
    """Return distance fields of foci with noisy outlines on the grid of `at`. `foci` must not be empty."""
    far = np.full(at.x.shape, 1e3, dtype=np.float32)
    core, necrosis, infiltration, oedema, cavity, blood, gaps = (far,) * 7
    lobulation, thickness, fingers = (noise(generator, at.x.shape, spacing_mm, wave) for wave in (18, 16, 24))
    breaks, clots = (noise(generator, at.x.shape, spacing_mm, wave) for wave in (22, 12))
    for focus in foci:
        body = far
        for (cx, cy, cz), radius in focus.lobes:
            ball = np.sqrt((at.x - cx) ** 2 + (at.y - cy) ** 2 + (at.z - cz) ** 2) - radius
            body = np.minimum(body, ball)
        body = body + lobulation * min(2.5, 0.13 * focus.radius_mm)
        if focus.rim_mm > 0:
            inner = body + np.maximum(focus.rim_mm * (1 + 0.35 * thickness), 1.0)
            core = np.minimum(core, body)
            necrosis = np.minimum(necrosis, inner)
            cavity = np.minimum(cavity, inner) if focus.cavity else cavity
            blood = np.minimum(blood, _patches(inner, clots, focus.blood))
            gaps = np.minimum(gaps, _patches(body - 1, breaks, focus.absent_rim))
            reach = focus.infiltration_mm * np.clip(0.5 + 0.7 * thickness, 0, 1.5)
        else:
            reach = np.float32(0)
        infiltration = np.minimum(infiltration, body - reach)
        oedema = np.minimum(oedema, body - focus.oedema_mm * np.clip(1 + 0.45 * fingers, 0.1, 2))
    return TumourFields(core, necrosis, infiltration, oedema, cavity, blood, gaps)


def _patches(inside: Field, pattern: Field, share: float) -> Field:
    """Return a field that is negative in about this share of the inside; `pattern` is noise of variance 1."""
    return np.asarray(np.maximum(inside, pattern - noise_level(share)), dtype=np.float32)


def noise_level(share: float) -> np.float32:
    """Return the level below which noise of variance 1 is in this share of voxels."""
    return np.float32(np.clip(norm.ppf(share), -9, 9))
