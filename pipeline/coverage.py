"""Measure which part of the head each series shows, after alignment, and refuse series that show too little.

The head is that of all series together, so that a reference which is itself cut is found out by the others;
`pipeline.head_region` says which part of it has to be seen. A series shows a place if it lies in its field of view and
is not blank there: images of zeros, masks that cut too much and padding are blank where a ball of BLANK_MM radius finds
room. Ventricles and cysts are dark, but enclosed by tissue, and count as shown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.labels import Role
from pipeline.errors import HeadNotCovered
from pipeline.head_region import DEPTH_MM, Mask, completed, distance_inside, farther_inside, head_region
from pipeline.normalise import otsu_threshold
from pipeline.reference import reference_of
from pipeline.reported_labels import ReportedLabels
from pipeline.resample import interpolate
from pipeline.role_coverage import MarkedUnseen, RoleCoverage, Side, UnseenSide
from pipeline.volume import IDENTITY, Geometry, Matrix, Volume

GRID_MM = 4.0
"""Edge of the voxels on which coverage is measured; less than the thickness of usual slices."""
BLANK_MM = 16.0
"""Radius of the smallest ball without tissue that counts as blank."""
HOLE_MM = 10.0
"""Radius of the smallest ball of missing values (NaN) inside of the head that counts as blank."""
MASK_MM = 8.0
"""An ADC map that is masked to the brain counts as shown this far around it, where liquor was masked, too."""
SIDE_MM = 20.0
"""Thickness, from the skin, of the outermost part of the head that may be missing on a side of a whole series."""
_SAME_HEAD = 0.8
"""Least overlap of two heads, as a part of the smaller, that are the same head."""
_MASKED = 0.6
"""An ADC map with more values than this share of its voxels has noise in the air, so it does not tell the head."""
_SIDES = (
    (0, True, Side.TOP),
    (0, False, Side.BOTTOM),
    (1, False, Side.FRONT),
    (1, True, Side.BACK),
    (2, False, Side.RIGHT),
    (2, True, Side.LEFT),
)
"""Axis of the grid, whether the side is at its end, and the side."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the series of a study show of the head."""

    roles: tuple[RoleCoverage, ...]
    seen_share: float
    """Share of the region that every series shows; 1 if each of them is whole."""
    shown: Mapping[Role, Mask]
    """For each series that is not whole the places that it shows, (slices, rows, columns) on `grid`."""
    grid: Geometry
    """Axis-aligned in the reference's world: slices towards the head, rows towards the back, columns towards the left.
    """

    @property
    def whole(self) -> bool:
        """Whether every series shows the whole head."""
        return all(each.whole for each in self.roles)

    def seen_on(self, grid: Geometry, roles: Iterable[Role]) -> Mask:
        """Return which voxels of another axis-aligned grid of the reference's world all of `roles` show."""
        index_map = np.linalg.inv(self.grid.affine) @ grid.affine
        inside, places = [], []
        for axis, size in enumerate(self.grid.shape):
            place = np.rint(index_map[axis, axis] * np.arange(grid.shape[axis]) + index_map[axis, 3]).astype(int)
            inside.append((place >= 0) & (place < size))
            places.append(place.clip(0, size - 1))
        within = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
        seen = np.ones(grid.shape, bool)
        for role in self.shown.keys() & set(roles):
            seen &= self.shown[role][np.ix_(*places)] & within
        return seen


def measure_coverage(volumes: Mapping[Role, Volume], to_series: Mapping[Role, Matrix]) -> Coverage:
    """Measure what each of `volumes` shows of the head.

    `to_series` maps world points of the reference series to those of the others; a role that it lacks is not moved.
    """
    reference = reference_of(volumes)
    grid = _common_grid(volumes, to_series)
    scans = {role: _sample(role, volume, grid, to_series.get(role, IDENTITY)) for role, volume in volumes.items()}
    in_field = np.logical_or.reduce([scan.in_field for scan in scans.values()])
    head, below, above = completed(_head(scans, reference), in_field, GRID_MM)
    region = head_region(head, GRID_MM)
    shown = {role: np.pad(_shown(scan), ((below, above), (0, 0), (0, 0))) for role, scan in scans.items()}
    roles = tuple(
        _role_coverage(role, region, mask, _share(mask, region & shown[reference])) for role, mask in shown.items()
    )
    partial = {each.role for each in roles if not each.whole}
    seen = np.logical_and.reduce([region, *(shown[role] for role in partial)])
    inner = slice(below, below + grid.shape[0])
    return Coverage(roles, _share(seen, region), {role: shown[role][inner] for role in partial}, grid)


def require_coverage(coverage: Coverage, series_uids: Mapping[Role, str], min_coverage: float) -> None:
    """Raise HeadNotCovered if a series that is not whole shows less than the share `min_coverage` of the head."""
    least = min(coverage.roles, key=lambda each: each.share_of_head)
    if least.whole or least.share_of_head >= min_coverage:
        return
    raise HeadNotCovered(
        f"Series {series_uids[least.role]} ({least.role}) shows {100 * least.share_of_head:.0f} % of the head that the "
        f"chosen series show together, and at least {100 * min_coverage:.0f} % are needed ([choose] min_coverage): "
        f"{least.missing()} were not seen. Send the whole series, or a complete {least.role}; where a scan was broken "
        "off or planned elsewhere, it has to be repeated.",
        least.role,
    )


def leave_out_unseen(
    probabilities: Tensor, grid: Geometry, reported: ReportedLabels, coverage: Coverage
) -> tuple[Tensor, MarkedUnseen]:
    """Return probabilities without labels where the series that shows them was not seen, and what that is.

    `probabilities` is (labels, slices, rows, columns) on `grid`, in the order of `reported`. What is marked where only
    another series was not seen is kept: it is a finding, if a doubtful one.
    """
    if coverage.whole:
        return probabilities, MarkedUnseen()
    every = torch.from_numpy(coverage.seen_on(grid, coverage.shown)).to(probabilities.device)
    left_out, doubtful, kept = [], [], []
    for shown_by, probability, threshold in zip(reported.shown_by, probabilities, reported.thresholds, strict=True):
        defined = torch.from_numpy(coverage.seen_on(grid, shown_by)).to(probabilities.device)
        marked = probability >= threshold
        left_out.append(int((marked & ~defined).sum()) * grid.voxel_volume_mm3 / 1000)
        doubtful.append(int((marked & defined & ~every).sum()) * grid.voxel_volume_mm3 / 1000)
        kept.append(probability.masked_fill(~defined, 0.0))
    return torch.stack(kept), MarkedUnseen(reported.labels, tuple(left_out), tuple(doubtful))


@dataclass(frozen=True, slots=True)
class _Scan:
    """A series on the grid of measuring."""

    in_field: Mask
    tissue: Mask
    """Where it has a value that is not air."""
    holes: Mask
    """Where it has no value, but tissue around."""
    tells_head: bool
    """Whether its tissue ends where the head ends, or within."""


def _common_grid(volumes: Mapping[Role, Volume], to_series: Mapping[Role, Matrix]) -> Geometry:
    """Return a grid around the fields of view of all series."""
    corners = []
    for role, volume in volumes.items():
        ends = [(-0.5, size - 0.5) for size in volume.geometry.shape]
        index = np.array([[s, r, c, 1.0] for s in ends[0] for r in ends[1] for c in ends[2]])
        to_reference = np.linalg.inv(np.array(to_series.get(role, IDENTITY)))
        corners.append((to_reference @ volume.geometry.affine @ index.T)[:3])
    points = np.concatenate(corners, axis=1)
    low, high = points.min(axis=1), points.max(axis=1)
    x, y, z = (int(np.ceil(length / GRID_MM)) for length in high - low)
    middle = (low + high) / 2
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    frame_of_reference_uid = volumes[reference_of(volumes)].geometry.frame_of_reference_uid
    return Geometry.axial((z, y, x), (GRID_MM, GRID_MM, GRID_MM), centre, frame_of_reference_uid)


def _sample(role: Role, volume: Volume, grid: Geometry, to_series: Matrix) -> _Scan:
    sampled = interpolate(torch.from_numpy(volume.pixels)[None], volume.geometry, grid, to_series)[0]
    values = sampled.numpy()
    present = np.isfinite(values)
    in_field = _in_field(volume.geometry, grid, to_series)
    if role is Role.ADC:  # quantitative: every value is one of tissue, or of noise
        masked = float(np.isfinite(volume.pixels).mean()) < _MASKED
        holes = ndimage.binary_fill_holes(present) & ~present
        return _Scan(in_field, _widened(present) if masked else present, holes, masked)
    # Half of Otsu's threshold separates air from tissue, as in `pipeline.normalise.head_mask`.
    tissue = present & (np.nan_to_num(values) > 0.5 * otsu_threshold(sampled))
    return _Scan(in_field, tissue, ndimage.binary_fill_holes(tissue) & ~present, True)


def _widened(mask: Mask) -> Mask:
    """Widen every slice by MASK_MM, and none beyond: a slice without values is blank."""
    return ~farther_inside(~mask, MASK_MM, GRID_MM, axes=(1, 2))


def _in_field(source: Geometry, grid: Geometry, to_series: Matrix) -> Mask:
    """Return which voxels of `grid` lie between the outer faces of the voxels of `source`."""
    index_map = np.linalg.inv(source.affine) @ np.array(to_series) @ grid.affine
    slices, rows, columns = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    inside = np.ones(grid.shape, bool)
    for row, size in zip(index_map[:3], source.shape, strict=True):
        place = row[0] * slices + row[1] * rows + row[2] * columns + row[3]
        inside &= (place >= -0.5) & (place <= size - 0.5)
    return inside


def _head(scans: Mapping[Role, _Scan], reference: Role) -> Mask:
    """Return the head as all series show it together; those that show another place than the reference are left out."""
    fixed = _largest(scans[reference].tissue)
    head = fixed.copy()
    for role, scan in scans.items():
        if role is reference or not scan.tells_head:
            continue
        other = _largest(scan.tissue)
        left, right = fixed & scan.in_field, other & scans[reference].in_field
        smaller = min(np.count_nonzero(left), np.count_nonzero(right))
        if smaller and np.count_nonzero(left & right) >= _SAME_HEAD * smaller:
            head |= other
    filled: Mask = ndimage.binary_fill_holes(head)
    return filled


def _largest(tissue: Mask) -> Mask:
    """Return the largest connected part of a mask, without what hangs on it by a thread."""
    opened: Mask = ndimage.binary_opening(tissue)
    labels, count = ndimage.label(opened)
    if count == 0:
        return opened
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = labels == sizes.argmax()
    return largest


def _shown(scan: _Scan) -> Mask:
    """Return where a series shows what is there: in its field of view and not blank."""
    filled = ndimage.binary_fill_holes(scan.tissue) & ~_opened(scan.holes, HOLE_MM)
    shown: Mask = scan.in_field & ~_opened(~filled, BLANK_MM)
    return shown


def _opened(mask: Mask, radius_mm: float) -> Mask:
    """Return the places of a mask that are covered by balls within it; beyond the grid the mask goes on."""
    reach = int(np.ceil(radius_mm / GRID_MM)) + 1
    padded = np.pad(mask, reach, mode="edge")
    cores = farther_inside(padded, radius_mm, GRID_MM)
    if not cores.any():
        return np.zeros_like(mask)
    inner = slice(reach, -reach)
    opened: Mask = (padded & ~farther_inside(~cores, radius_mm, GRID_MM))[inner, inner, inner]
    return opened


def _role_coverage(role: Role, region: Mask, shown: Mask, share_of_t1ce_head: float) -> RoleCoverage:
    hidden = region & ~shown
    hidden_mm = 2 * float(distance_inside(hidden, GRID_MM).max()) if hidden.any() else 0.0
    return RoleCoverage(role, _share(shown, region), share_of_t1ce_head, _unseen_sides(region, shown), hidden_mm)


def _share(shown: Mask, region: Mask) -> float:
    total = np.count_nonzero(region)
    return float(np.count_nonzero(shown & region) / total) if total else 0.0


def _unseen_sides(region: Mask, shown: Mask) -> tuple[UnseenSide, ...]:
    """Return the sides of which planes are mostly unseen, from the outermost on; the one that explains most first."""
    found: list[UnseenSide] = []
    unseen = region & ~shown
    while unseen.any():
        ends = [(axis, _unseen_end(region, unseen, axis, at_end), side) for axis, at_end, side in _SIDES]
        # What is seen there speaks against a side, so that half a head is not taken for one without its top.
        axis, planes, side = max(ends, key=lambda each: _explained(region, unseen, each[0], each[1]))
        thickness_mm = len(planes) * GRID_MM + (0.0 if side is Side.BOTTOM else DEPTH_MM)
        if not len(planes) or thickness_mm <= SIDE_MM:
            break
        found.append(UnseenSide(side, thickness_mm))
        # What this side explains is no evidence for another one.
        there = tuple(planes if axis == other else slice(None) for other in range(3))
        region, unseen = region.copy(), unseen.copy()
        region[there] = unseen[there] = False
    return tuple(found)


def _explained(region: Mask, unseen: Mask, axis: int, planes: NDArray[np.intp]) -> int:
    return int(2 * np.count_nonzero(unseen.take(planes, axis)) - np.count_nonzero(region.take(planes, axis)))


def _unseen_end(region: Mask, unseen: Mask, axis: int, at_end: bool) -> NDArray[np.intp]:
    """Return the indices of planes of the region that are mostly unseen, from one end on; none if all of them are."""
    others = tuple(other for other in range(3) if other != axis)
    counts = region.sum(axis=others)
    planes = np.flatnonzero(counts)
    if at_end:
        planes = planes[::-1]
    mostly = 2 * unseen.sum(axis=others)[planes] > counts[planes]
    return planes[:0] if mostly.all() else planes[: int(mostly.argmin())]
