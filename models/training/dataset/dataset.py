"""Read a data set: its cases, with channels and labels by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.labels import Role
from models.training.dataset.fingerprint import image_fingerprint
from models.training.dataset.manifest import (
    CASES_FOLDER,
    Annotator,
    CaseEntry,
    DatasetBroken,
    Manifest,
    Split,
    read_manifest,
)
from models.training.dataset.nifti import read_nifti
from pipeline.normalise import normalise
from pipeline.reference import reference_on_one_grid
from pipeline.volume import Geometry, Volume


@dataclass(frozen=True, slots=True)
class Case:
    """One study with its truth, all on one grid. Every call reads the files anew; nothing is cached."""

    entry: CaseEntry
    folder: Path
    channels: tuple[Role, ...]
    """The channels that the case has, in the order of the data set's."""
    labels: tuple[str, ...]
    """The labels that the case has, in the order of the data set's. One that nobody looked for is not among them, and
    an empty mask is something else: somebody looked and found nothing."""

    @property
    def case_id(self) -> str:
        """Return the keyed hash of the study."""
        return self.entry.case_id

    @property
    def patient(self) -> str:
        """Return the keyed hash of the patient."""
        return self.entry.patient

    @property
    def split(self) -> Split:
        """Return what the case is used for."""
        return self.entry.split

    @property
    def reference(self) -> Role:
        """Return the channel on which the head is found: T1CE where the case has it."""
        return reference_on_one_grid(self.channels)

    @property
    def annotators(self) -> Mapping[str, Annotator]:
        """Return who annotated each label of the case."""
        return dict(self.entry.annotators)

    @property
    def image_fingerprints(self) -> frozenset[str]:
        """Return the image fingerprint of each channel: two cases that share one, in whatever sets, are of one scan.

        Reads the channels of a case of format 2, whose manifest does not state them. Raises DatasetBroken.
        """
        stated = frozenset(fingerprint for _, fingerprint in self.entry.images)
        return stated or frozenset(image_fingerprint(self.volume(role).pixels) for role in self.channels)

    def volume(self, role: Role) -> Volume:
        """Read a channel as it was measured: ADC in 10^-6 mm2/s, others in the scanner's units, NaN for no value.

        Raises DatasetBroken if the case has no such channel, or its file is missing or damaged.
        """
        if role not in self.channels:
            names = ", ".join(self.channels)
            raise DatasetBroken(f"Case {self.case_id} has no channel {role}; it has {names}. Ask for one of these.")
        voxels, geometry = self._read(channel_file(role))
        if not np.issubdtype(voxels.dtype, np.floating):
            raise DatasetBroken(f"Case {self.case_id}: {channel_file(role)} is not float32. Make the data set again.")
        return Volume(np.asarray(voxels, np.float32), geometry)

    def volumes(self, roles: tuple[Role, ...]) -> Mapping[Role, Volume]:
        """Read several channels, as `pipeline.align.align` takes them. Raises DatasetBroken if their grids differ."""
        found = {role: self.volume(role) for role in roles}
        self._require_same_grid([(channel_file(role), volume.geometry) for role, volume in found.items()])
        return found

    def normalised(self, roles: tuple[Role, ...]) -> Tensor:
        """Read channels on the scale of the network's input: (roles, slices, rows, columns) float32; see `normalise`.

        T1CE, or the reference of a case without, is always read, since `normalise` finds the head on it. Raises
        DatasetBroken.
        """
        wanted = roles if self.reference in roles else (*roles, self.reference)
        volumes = self.volumes(wanted)
        raw = torch.from_numpy(np.stack([volumes[role].pixels for role in wanted]))
        return normalise(raw, wanted)[: len(roles)]

    def masks(self, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """Read labels as (labels, slices, rows, columns); they may overlap. Raises DatasetBroken."""
        return self.masks_with_geometry(labels)[0]

    def masks_with_geometry(self, labels: tuple[str, ...]) -> tuple[NDArray[np.bool_], Geometry]:
        """Read labels like `masks`, and the grid that their files state. Raises DatasetBroken."""
        for label in labels:
            if label not in self.labels:
                names = ", ".join(self.labels)
                raise DatasetBroken(f"Case {self.case_id} has no label {label}; it has {names}. Ask for one of these.")
        read = [self._read(label_file(label)) for label in labels]
        self._require_same_grid(
            [(label_file(label), geometry) for label, (_, geometry) in zip(labels, read, strict=True)]
        )
        for label, (voxels, _) in zip(labels, read, strict=True):
            if not np.isin(np.unique(voxels), (0, 1)).all():
                name = label_file(label)
                raise DatasetBroken(
                    f"Case {self.case_id}: {name} holds other values than 0 and 1. Make the data set again."
                )
        return np.stack([voxels.astype(bool) for voxels, _ in read]), read[0][1]

    @property
    def geometry(self) -> Geometry:
        """Read the grid of the first channel. Raises DatasetBroken."""
        return self._read(channel_file(self.channels[0]))[1]

    def _read(self, name: str) -> tuple[NDArray[np.generic], Geometry]:
        try:
            return read_nifti(self.folder / name)
        except OSError as exc:
            raise DatasetBroken(
                f"Case {self.case_id}: {name} is missing or damaged. Copy the data set again, or make it again."
            ) from exc

    def _require_same_grid(self, files: list[tuple[str, Geometry]]) -> None:
        first = files[0][1]
        for name, geometry in files[1:]:
            if not same_grid(first, geometry):
                raise DatasetBroken(
                    f"Case {self.case_id}: {name} is on another grid than {files[0][0]}. Make the data set again."
                )


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set made by `glionode dataset`."""

    folder: Path
    manifest: Manifest
    cases: tuple[Case, ...]
    """Sorted by case ID."""

    @property
    def channels(self) -> tuple[Role, ...]:
        """Return the channels that at least one case has."""
        return self.manifest.channels

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels that at least one case has."""
        return self.manifest.labels

    @property
    def spacing_mm(self) -> float:
        """Return the edge of the isotropic voxels."""
        return self.manifest.spacing_mm

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the content; see `fingerprint.dataset_fingerprint`."""
        return self.manifest.fingerprint

    def of(self, split: Split) -> tuple[Case, ...]:
        """Return the cases of one split."""
        return tuple(case for case in self.cases if case.split is split)


def read_dataset(folder: Path) -> Dataset:
    """Open the data set in a folder. Reads no voxels. Raises DatasetBroken."""
    manifest = read_manifest(folder)
    cases = tuple(
        Case(
            entry,
            folder / CASES_FOLDER / entry.case_id,
            entry.channels,
            tuple(label for label in manifest.labels if label in dict(entry.annotators)),
        )
        for entry in manifest.entries()
    )
    for case in cases:
        if not case.folder.is_dir():
            raise DatasetBroken(f"{folder}: the folder of case {case.case_id} is missing. Copy the data set again.")
    return Dataset(folder, manifest, cases)


def channel_file(role: Role) -> str:
    """Return the name of a channel's file in the folder of a case."""
    return f"channel-{role}.nii.gz"


def label_file(label: str) -> str:
    """Return the name of a label's file in the folder of a case."""
    return f"label-{label}.nii.gz"


def same_grid(one: Geometry, other: Geometry) -> bool:
    """Return whether two grids are equal up to the rounding of a NIfTI header (float32)."""
    return one.shape == other.shape and bool(np.allclose(one.affine, other.affine, rtol=0, atol=1e-3))
