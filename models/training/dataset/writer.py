"""Write a data set case by case. `dataset.json` is written last and marks the data set as complete."""

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
    ADC_UNIT,
    CASES_FOLDER,
    Annotator,
    CaseDocument,
    CaseEntry,
    DatasetBroken,
    DatasetSource,
    Manifest,
    Split,
    write_manifest,
)
from models.training.dataset.name_table import CaseSource, NamedCase
from models.training.dataset.nifti import write_nifti
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares, split_patients
from pipeline.volume import Geometry


class CaseRefused(DatasetBroken):
    """A study cannot become a case. Other studies are not affected."""


@dataclass(frozen=True, slots=True)
class SkippedStudy:
    """A study or file that was not used."""

    where: str
    """Name of the BraTS case, UID of the study, or path of the file."""
    reason: str
    """A sentence for a person."""


@dataclass(frozen=True, slots=True)
class NewCase:
    """A study as converted from its source, before it has a pseudonym."""

    patient: str
    """Identifies the patient within the source; only its hash is written."""
    study: str
    """Identifies the study within the source; only its hash is written."""
    grid: Geometry
    channels: Mapping[Role, NDArray[np.float32]]
    """(slices, rows, columns) on `grid` by role, NaN for no value; ADC in 10^-6 mm2/s. Without what the study lacks."""
    masks: Mapping[str, NDArray[np.bool_]]
    """(slices, rows, columns) on `grid` by label. A label that nobody looked for is not among them."""
    annotators: Mapping[str, Annotator]
    """Who annotated each label."""
    source: CaseSource | None = None
    """Its name and place, which are not written to the data set; None for a case without."""
    persons: tuple[str, ...] = ()
    """What tells the patient besides, such as an ID in another spelling; cases that share one share a split."""
    remarks: tuple[str, ...] = ()
    """Sentences for whoever makes the data set."""


def check_choice(channels: tuple[Role, ...], labels: tuple[str, ...], spacing_mm: float) -> None:
    """Raise ValueError if no data set can have these channels, labels and voxels."""
    for names in (channels, labels):
        if len(set(names)) != len(names) or not names:
            raise ValueError("every channel and every label must be named once")
    if not 0.2 <= spacing_mm <= 5:
        raise ValueError("the spacing must be between 0.2 and 5 mm")


class DatasetWriter:
    """Writes the cases of one data set, then its manifest."""

    def __init__(
        self,
        out: Path,
        source: DatasetSource,
        channels: tuple[Role, ...],
        labels: tuple[str, ...],
        pseudonyms: Pseudonyms,
    ) -> None:
        """Open an empty or new folder. Raises DatasetBroken if it holds files or cannot be made.

        `channels` and `labels` are all that a case may have, in the order of the data set.
        A folder with an empty folder of cases, as a run leaves it that found none, is as good as an empty one.
        """
        if out.exists() and (
            not out.is_dir() or any(path.name != CASES_FOLDER or _holds_files(path) for path in out.iterdir())
        ):
            raise DatasetBroken(f"{out} already holds files. Choose an empty folder for the data set.")
        self._out, self._source, self._pseudonyms = out, source, pseudonyms
        self._channels, self._labels = channels, labels
        self._entries: dict[str, CaseEntry] = {}
        self._spacing_mm: float | None = None
        self._images: dict[str, str] = {}
        self._same_patient: list[tuple[str, str]] = []
        self._persons: dict[str, str] = {}
        self.remarks: list[tuple[str, str]] = []
        """Study and sentence, of the cases written so far."""
        self._sources: dict[str, CaseSource] = {}
        try:
            (out / CASES_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise DatasetBroken(f"{out} cannot be made: {exc.strerror or exc}. Choose another folder.") from exc

    def add(self, case: NewCase) -> str:
        """Write a case and return its ID. Raises CaseRefused, or DatasetBroken if the disk cannot be written.

        A case needs one channel and one label.
        """
        case_id, patient = (
            self._pseudonyms("study", case.patient, case.study),
            self._pseudonyms("patient", case.patient),
        )
        if case_id in self._entries:
            raise CaseRefused("The study occurs twice. Remove one of the copies.")
        _validate(case)
        channels = tuple(role for role in self._channels if role in case.channels)
        labels = tuple(label for label in self._labels if label in case.masks)
        images = {role: image_fingerprint(case.channels[role]) for role in channels}
        if twin := next((self._images[each] for each in images.values() if each in self._images), None):
            self._same_patient.append((self._entries[twin].patient, patient))
            raise CaseRefused(f"Its images are those of case {twin}. Remove one of the two.")
        files: dict[str, NDArray[np.float32] | NDArray[np.bool_]] = {
            **{channel_file(role): case.channels[role] for role in channels},
            **{label_file(label): case.masks[label] for label in labels},
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
                f"Case {case_id} cannot be written to {self._out}: {exc.strerror or exc}. Free some disk space, "
                "empty the folder and start again."
            ) from exc
        self._entries[case_id] = CaseEntry(
            case_id=case_id,
            patient=patient,
            split=Split.TRAIN,
            annotators=tuple((label, case.annotators[label]) for label in labels),
            fingerprint=case_fingerprint(files.items(), case.grid),
            channels=channels,
            images=tuple(images.items()),
        )
        self._images |= dict.fromkeys(images.values(), case_id)
        self._same_patient += [(self._persons.setdefault(each, patient), patient) for each in case.persons]
        name = case.source.name if case.source is not None else case.study
        self.remarks += [(name, remark) for remark in case.remarks]
        if lacks := [each for each in (*self._channels, *self._labels) if each not in (*channels, *labels)]:
            self.remarks.append((name, f"It has no {' and no '.join(lacks)}."))
        if case.source is not None:
            self._sources[case_id] = case.source
        self._spacing_mm = self._spacing_mm or round(case.grid.spacing_mm[0], 4)
        return case_id

    @property
    def named(self) -> tuple[NamedCase, ...]:
        """Return the cases written so far, with their names."""
        return tuple(NamedCase(each, self._entries[each].patient, source) for each, source in self._sources.items())

    def finish(self, shares: Shares, seed: int, known: Mapping[str, Split] | None = None) -> Manifest:
        """Split the patients and write `dataset.json`. Raises DatasetBroken if there is no case."""
        if self._spacing_mm is None:
            (self._out / CASES_FOLDER).rmdir()  # so that the same folder can be used again
            raise DatasetBroken("No study became a case, so no data set was made.")
        patients = {entry.patient for entry in self._entries.values()}
        splits = split_patients(patients, shares, seed, known, self._same_patient)
        entries = tuple(replace(entry, split=splits[entry.patient]) for _, entry in sorted(self._entries.items()))
        channels = tuple(role for role in self._channels if any(role in each.channels for each in entries))
        labels = tuple(label for label in self._labels if any(label in dict(each.annotators) for each in entries))
        manifest = Manifest(
            format=3,
            source=self._source,
            channels=channels,
            units={role: ADC_UNIT if role is Role.ADC else "arbitrary" for role in channels},
            labels=labels,
            spacing_mm=self._spacing_mm,
            seed=seed,
            key=self._pseudonyms.fingerprint,
            splits={split: tuple(each.case_id for each in entries if each.split is split) for split in Split},
            cases={
                each.case_id: CaseDocument(
                    patient=each.patient,
                    images=dict(each.images),
                    drawn=dict(each.annotators),
                    fingerprint=each.fingerprint,
                )
                for each in entries
            },
            fingerprint=dataset_fingerprint(self._source, channels, labels, self._spacing_mm, entries),
        )
        try:
            write_manifest(manifest, self._out)
        except OSError as exc:
            raise DatasetBroken(f"{self._out} cannot be written: {exc.strerror or exc}. Free some disk space.") from exc
        return manifest


def _holds_files(path: Path) -> bool:
    return not path.is_dir() or any(path.iterdir())


def _validate(case: NewCase) -> None:
    """Raise CaseRefused if there is no channel or label, or a channel is constant, empty or has infinite values."""
    if not case.channels:
        raise CaseRefused("It has no channel. Add the images.")
    if not case.masks:
        raise CaseRefused("It has no label. Add an annotation.")
    assert max(case.grid.spacing_mm) - min(case.grid.spacing_mm) < 2e-3, case.grid.spacing_mm
    for role, voxels in case.channels.items():
        assert voxels.shape == case.grid.shape, (role, voxels.shape, case.grid.shape)
        finite = voxels[np.isfinite(voxels)]
        if finite.size == 0 or finite.min() == finite.max():
            raise CaseRefused(f"Its {role} is constant or has no values. Check the images.")
        if np.isinf(voxels).any():
            raise CaseRefused(f"Its {role} has infinite values. Check the images.")
    for label, mask in case.masks.items():
        assert mask.shape == case.grid.shape, (label, mask.shape, case.grid.shape)
