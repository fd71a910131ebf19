"""Write a data set case by case; `dataset.json` comes last and says that it is whole. Knows no sources."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from models.training.dataset.dataset import channel_file, label_file
from models.training.dataset.fingerprint import case_fingerprint, dataset_fingerprint, image_fingerprint
from models.training.dataset.manifest import (
    CASES_FOLDER,
    Annotator,
    CaseEntry,
    DatasetBroken,
    DatasetSource,
    Manifest,
    Split,
    write_manifest,
)
from models.training.dataset.nifti import write_nifti
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares, split_patients
from pipeline.volume import Geometry


class CaseRefused(DatasetBroken):
    """One study cannot become a case; the others can."""


@dataclass(frozen=True, slots=True)
class SkippedStudy:
    """A study that did not become a case."""

    where: str
    """Its folder or its UID."""
    reason: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class NewCase:
    """A study as it came from its source, before it has a name."""

    patient: str
    """Whatever tells the patient from others; it is written nowhere."""
    study: str
    """Whatever tells the study from others of all patients; it is written nowhere."""
    grid: Geometry
    channels: Mapping[Role, NDArray[np.float32]]
    """(slices, rows, columns) on `grid`, NaN where there is no value; ADC in 10^-6 mm2/s."""
    masks: Mapping[str, NDArray[np.bool_]]
    """(slices, rows, columns) on `grid` by label."""
    annotators: Mapping[str, Annotator]
    """By label."""


class DatasetWriter:
    """A data set in the making."""

    def __init__(
        self, out: Path, source: DatasetSource, channels: tuple[Role, ...], labels: tuple[str, ...], names: Pseudonyms
    ) -> None:
        """Take an empty or new folder. Raises DatasetBroken."""
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DatasetBroken(f"{out} already holds files. Choose an empty folder for the data set.")
        self._out, self._source, self._names = out, source, names
        self._channels, self._labels = channels, labels
        self._entries: dict[str, CaseEntry] = {}
        self._spacing_mm: float | None = None
        self._images: dict[str, str] = {}
        try:
            (out / CASES_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise DatasetBroken(f"{out} cannot be made: {exc.strerror or exc}. Choose another folder.") from exc

    def add(self, case: NewCase) -> str:
        """Write a case and give its id. Raises CaseRefused, and DatasetBroken where nothing can be written."""
        case_id = self._names("study", case.patient, case.study)
        if case_id in self._entries:
            raise CaseRefused("The same study is here twice. Leave one of them out.")
        images = image_fingerprint(case.channels[self._channels[0]])
        if images in self._images:
            raise CaseRefused(f"Its images are those of case {self._images[images]}. Leave one of them out.")
        _check(case)
        files: dict[str, NDArray[np.float32] | NDArray[np.bool_]] = {
            **{channel_file(role): case.channels[role] for role in self._channels},
            **{label_file(label): case.masks[label] for label in self._labels},
        }
        folder = self._out / CASES_FOLDER / case_id
        part = folder.with_name(f".{case_id}.part")
        try:
            part.mkdir()
            for name, voxels in files.items():
                write_nifti(voxels.astype(np.uint8) if voxels.dtype == bool else voxels, case.grid, part / name)
            part.rename(folder)
        except OSError as exc:
            shutil.rmtree(part, ignore_errors=True)
            raise DatasetBroken(
                f"Case {case_id} cannot be written to {self._out}: {exc.strerror or exc}. Free some space, empty the "
                "folder and begin anew."
            ) from exc
        self._entries[case_id] = CaseEntry(
            case_id=case_id,
            patient=self._names("patient", case.patient),
            split=Split.TRAIN,
            annotators=tuple((label, case.annotators[label]) for label in self._labels),
            fingerprint=case_fingerprint(files.items(), case.grid),
        )
        self._images[images] = case_id
        self._spacing_mm = self._spacing_mm or round(case.grid.spacing_mm[0], 4)
        return case_id

    def finish(self, shares: Shares, seed: int, known: Mapping[str, Split] | None = None) -> Manifest:
        """Share the patients out and write `dataset.json`. Raises DatasetBroken where there is no case."""
        if self._spacing_mm is None:
            (self._out / CASES_FOLDER).rmdir()  # so that the same folder can be given again
            raise DatasetBroken("There is no case, so no data set was made.")
        splits = split_patients((entry.patient for entry in self._entries.values()), shares, seed, known)
        entries = tuple(replace(entry, split=splits[entry.patient]) for _, entry in sorted(self._entries.items()))
        manifest = Manifest(
            source=self._source,
            channels=self._channels,
            labels=self._labels,
            spacing_mm=self._spacing_mm,
            seed=seed,
            key=self._names.fingerprint,
            cases=entries,
            fingerprint=dataset_fingerprint(self._source, self._channels, self._labels, self._spacing_mm, entries),
        )
        try:
            write_manifest(manifest, self._out)
        except OSError as exc:
            raise DatasetBroken(f"{self._out} cannot be written: {exc.strerror or exc}. Free some space.") from exc
        return manifest


def _check(case: NewCase) -> None:
    """Raises CaseRefused where a channel says nothing, or an infinite number."""
    assert max(case.grid.spacing_mm) - min(case.grid.spacing_mm) < 2e-3, case.grid.spacing_mm
    for role, voxels in case.channels.items():
        assert voxels.shape == case.grid.shape, (role, voxels.shape, case.grid.shape)
        finite = voxels[np.isfinite(voxels)]
        if finite.size == 0 or finite.min() == finite.max():
            raise CaseRefused(f"Its {role} has one value everywhere, or none. Check the images.")
        if np.isinf(voxels).any():
            raise CaseRefused(f"Its {role} has infinite values. Check the images.")
    for label, mask in case.masks.items():
        assert mask.shape == case.grid.shape, (label, mask.shape, case.grid.shape)
