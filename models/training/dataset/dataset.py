"""A data set as training and evaluation see it: cases, channels by name, labels by name. Writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.labels import Role
from models.training.dataset.manifest import CASES_FOLDER, CaseEntry, DatasetBroken, Manifest, Split, read_manifest
from models.training.dataset.nifti import read_nifti
from pipeline.normalise import normalise
from pipeline.volume import Geometry, Volume


@dataclass(frozen=True, slots=True)
class Case:
    """One study with its truth, on one grid. Nothing is read before it is asked for, and nothing is kept."""

    entry: CaseEntry
    folder: Path
    channels: tuple[Role, ...]
    """Those that there are."""
    labels: tuple[str, ...]
    """Those that there are."""

    @property
    def case_id(self) -> str:
        """Keyed hash of the study."""
        return self.entry.case_id

    @property
    def patient(self) -> str:
        """Keyed hash of the patient."""
        return self.entry.patient

    @property
    def split(self) -> Split:
        """What the case is for."""
        return self.entry.split

    def volume(self, role: Role) -> Volume:
        """A channel as it was measured: ADC in 10^-6 mm2/s, else the scanner's units; NaN where there is no value.

        Raises DatasetBroken where the data set has no such channel, or its file is damaged.
        """
        if role not in self.channels:
            names = ", ".join(self.channels)
            raise DatasetBroken(f"Case {self.case_id} has no channel {role}; it has {names}. Ask for one of these.")
        voxels, geometry = self._read(channel_file(role))
        if not np.issubdtype(voxels.dtype, np.floating):
            raise DatasetBroken(f"Case {self.case_id}: {channel_file(role)} is not float32. Make the data set anew.")
        return Volume(np.asarray(voxels, np.float32), geometry)

    def volumes(self, roles: tuple[Role, ...]) -> Mapping[Role, Volume]:
        """Several channels by name, on one grid. `pipeline.align.align` takes this. Raises DatasetBroken."""
        found = {role: self.volume(role) for role in roles}
        self._same_grid([(channel_file(role), volume.geometry) for role, volume in found.items()])
        return found

    def normalised(self, roles: tuple[Role, ...]) -> Tensor:
        """(roles, slices, rows, columns) float32, on the scale that the node's own network sees; see `normalise`.

        T1CE, which says where the head is, is read in any case. Raises DatasetBroken.
        """
        wanted = roles if Role.T1CE in roles else (*roles, Role.T1CE)
        volumes = self.volumes(wanted)
        raw = torch.from_numpy(np.stack([volumes[role].pixels for role in wanted]))
        return normalise(raw, wanted)[: len(roles)]

    def masks(self, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """(labels, slices, rows, columns) on the grid of the channels; the labels may overlap. Raises DatasetBroken."""
        return self.placed_masks(labels)[0]

    def placed_masks(self, labels: tuple[str, ...]) -> tuple[NDArray[np.bool_], Geometry]:
        """The same, and where their files say that they stand. Raises DatasetBroken."""
        for label in labels:
            if label not in self.labels:
                names = ", ".join(self.labels)
                raise DatasetBroken(f"Case {self.case_id} has no label {label}; it has {names}. Ask for one of these.")
        read = [self._read(label_file(label)) for label in labels]
        self._same_grid([(label_file(label), geometry) for label, (_, geometry) in zip(labels, read, strict=True)])
        for label, (voxels, _) in zip(labels, read, strict=True):
            if not np.isin(np.unique(voxels), (0, 1)).all():
                raise DatasetBroken(
                    f"Case {self.case_id}: {label_file(label)} holds other values than 0 and 1. Make the data set anew."
                )
        return np.stack([voxels.astype(bool) for voxels, _ in read]), read[0][1]

    @property
    def geometry(self) -> Geometry:
        """The grid, as the first channel says it. Raises DatasetBroken."""
        return self._read(channel_file(self.channels[0]))[1]

    def _read(self, name: str) -> tuple[NDArray[np.generic], Geometry]:
        try:
            return read_nifti(self.folder / name)
        except OSError as exc:
            raise DatasetBroken(
                f"Case {self.case_id}: {name} is missing or damaged. Make the data set anew, or copy it again."
            ) from exc

    def _same_grid(self, files: list[tuple[str, Geometry]]) -> None:
        first = files[0][1]
        for name, geometry in files[1:]:
            if not same_place(first, geometry):
                raise DatasetBroken(
                    f"Case {self.case_id}: {name} does not stand where {files[0][0]} does. Make the data set anew."
                )


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder that `glionode dataset` made."""

    folder: Path
    manifest: Manifest
    cases: tuple[Case, ...]
    """In the order of their ids."""

    @property
    def channels(self) -> tuple[Role, ...]:
        """Channels that every case has."""
        return self.manifest.channels

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that every case has."""
        return self.manifest.labels

    @property
    def spacing_mm(self) -> float:
        """Edge of the isotropic voxels."""
        return self.manifest.spacing_mm

    @property
    def fingerprint(self) -> str:
        """SHA-256 that stands for all that the data set holds."""
        return self.manifest.fingerprint

    def of(self, split: Split) -> tuple[Case, ...]:
        """The cases of one split."""
        return tuple(case for case in self.cases if case.split is split)


def read_dataset(folder: Path) -> Dataset:
    """The data set in a folder; no voxel is read. Raises DatasetBroken."""
    manifest = read_manifest(folder)
    cases = tuple(
        Case(entry, folder / CASES_FOLDER / entry.case_id, manifest.channels, manifest.labels)
        for entry in manifest.cases
    )
    for case in cases:
        if not case.folder.is_dir():
            raise DatasetBroken(f"{folder}: the folder of case {case.case_id} is missing. Copy the data set again.")
    return Dataset(folder, manifest, cases)


def channel_file(role: Role) -> str:
    """Name of a channel's file in the folder of its case."""
    return f"channel-{role}.nii.gz"


def label_file(label: str) -> str:
    """Name of a label's file in the folder of its case."""
    return f"label-{label}.nii.gz"


def same_place(one: Geometry, other: Geometry) -> bool:
    """Whether two grids are the same, but for the rounding of a NIfTI header (float32)."""
    return one.shape == other.shape and bool(np.allclose(one.affine, other.affine, rtol=0, atol=1e-3))
