"""Annotations of a label, whatever their file format, and the label that a name or number in a file stands for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.labels import (
    ADC_ABNORMALITY,
    ENHANCING_TUMOUR,
    FLAIR_HYPERINTENSITY,
    LABELS,
    PAPER_LABELS,
    TUMOUR_CORE,
    WHOLE_TUMOUR,
    Label,
    Role,
)
from models.training.dataset.manifest import Annotator
from models.training.dataset.writer import CaseRefused
from pipeline.volume import Geometry

Part = tuple[NDArray[np.bool_], Geometry]
"""Mask (slices, rows, columns) and its grid. The slice spacing of a single slice has no meaning."""

_ALSO_CALLED = {
    ENHANCING_TUMOUR: ("enhancing tumor", "enhancing lesion", "enhancing", "et", "t1ce"),
    ADC_ABNORMALITY: ("adc", "adc lesion"),
    FLAIR_HYPERINTENSITY: ("flair", "flair lesion"),
    TUMOUR_CORE: ("tumor core", "tc"),
    WHOLE_TUMOUR: ("whole tumor", "wt"),
}
_ROLE_WORDS = frozenset(role.casefold() for role in Role)
_NEGATIONS = frozenset({"non", "no", "not", "without"})
_BRAIN_WORDS = frozenset({"bet", "brain", "brainmask", "hdbet", "skull", "skullstrip", "skullstripped", "synthstrip"})
_LESION_WORDS = frozenset({"tumour", "tumor", "lesion", "lesions", "metastasis", "metastases", "glioma", "gbm"})
_MASK_WORDS = frozenset(
    {
        "mask",
        "masks",
        "seg",
        "segm",
        "segmentation",
        "segmentations",
        "label",
        "labels",
        "labelmap",
        "roi",
        "truth",
        "gt",
    }
)
_PROBABILITY_WORDS = frozenset({"prob", "probs", "probability", "probabilities", "softmax", "logits", "heatmap"})
_NEUTRAL_WORDS = (
    _ROLE_WORDS
    | _LESION_WORDS
    | _MASK_WORDS
    | frozenset({"map", "manual", "drawn", "drawing", "corrected", "final", "reader", "sub", "ses", "patient", "study"})
)
"""Words that may accompany the name of a series without changing that the series' label is meant."""

_PRECEDENCE = (Annotator.PERSON, Annotator.PROGRAM, Annotator.NODE)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One label in one SEG or file."""

    label: str
    parts: tuple[Part, ...]
    annotator: Annotator
    annotated_at: str
    """Date and time as sortable digits; "" if unknown."""
    series_instance_uid: str
    """The annotated series; "" if the file does not name it, so that it must be found by the grid."""
    where: str
    """UID or file name, for messages."""
    role_hint: Role | None = None
    """The series that the file name suggests."""
    presumed: bool = False
    """Whether only the usual numbers of a label map say which label it is."""

    @property
    def frame_of_reference_uid(self) -> str:
        """Return that of its parts; "" if unknown."""
        return next((grid.frame_of_reference_uid for _, grid in self.parts), "")


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Finds the label that the name or code of a segment, a number in a label map, or a file name stands for."""

    site_names: Mapping[str, str] = field(default_factory=dict)
    """The site's names, codes or numbers, each with its label. They take precedence over the built-in ones."""

    def __post_init__(self) -> None:
        known = {label.name for label in LABELS}
        if unknown := set(self.site_names.values()) - known:
            raise ValueError(f"there is no label {sorted(unknown)[0]}; the labels are {', '.join(sorted(known))}")

    def label_of_name(self, *texts: str) -> str | None:
        """Return the label of the first text that names one, or None."""
        ours = {_plain(name): label.name for label in LABELS for name in _names(label)}
        table = ours | {_plain(text): label for text, label in self.site_names.items()}
        return next((table[_plain(text)] for text in texts if _plain(text) in table), None)

    def label_of_number(self, number: int) -> str | None:
        """Return the label of a number in a label map; by default 1, 2 and 3 as in the node and in Wan et al. 2024."""
        numbers = {str(label.number): label.name for label in PAPER_LABELS} | dict(self.site_names)
        return numbers.get(str(number))

    def label_of_file(self, name: str) -> str | None:
        """Return the label that a file name contains; None if it contains none or several.

        `non_enhancing_tumour` contains none. The name of a series stands for its label in `adc_mask`, but not next to a
        word with another meaning, as in `t1ce_necrosis`.
        """
        words = _words(name)
        only_neutral = all(word in _NEUTRAL_WORDS or any(map(str.isdigit, word)) for word in words)
        own = {_plain(text) for text in self.site_names}
        found = set()
        for first, phrase in _phrases(words):
            if first and words[first - 1] in _NEGATIONS:
                continue
            if not phrase.isdigit() and (only_neutral or phrase in own or phrase not in _ROLE_WORDS):
                found.add(self.label_of_name(phrase))
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def names_a_mask(self, name: str) -> bool:
        """Return whether a file name is that of a mask or label map, and not of an image or of probabilities."""
        words = _words(name)
        if set(words) & _PROBABILITY_WORDS:
            return False
        named = (phrase for _, phrase in _phrases(words) if phrase not in _ROLE_WORDS and not phrase.isdigit())
        return bool(set(words) & _MASK_WORDS) or any(self.label_of_name(phrase) is not None for phrase in named)

    def is_brain_mask(self, name: str) -> bool:
        """Return whether a file name is that of a brain mask, as skull-stripping programs write them."""
        words = set(_words(name))
        return bool(words & _BRAIN_WORDS) and not words & _LESION_WORDS and self.label_of_file(name) is None


def select_annotation(candidates: tuple[Annotation, ...], defined_on: str) -> Annotation:
    """Select the annotation of a label that counts as truth. `defined_on` is the UID of the label's own series.

    A person's annotation takes precedence over a program's, and that over the node's; then a later one over an earlier
    one, and one on the label's own series over one on another. Raises CaseRefused if two have equal precedence.
    """
    best = min((each.annotator for each in candidates), key=_PRECEDENCE.index)
    candidates = tuple(each for each in candidates if each.annotator is best)
    if len(candidates) > 1 and not all(each.annotated_at for each in candidates):
        raise CaseRefused(f"{_conflict(candidates)}, and one has no date. Keep one of them.")
    ranked = sorted(candidates, key=lambda each: _rank(each, defined_on), reverse=True)
    if len(ranked) > 1 and _rank(ranked[0], defined_on) == _rank(ranked[1], defined_on):
        raise CaseRefused(f"{_conflict(tuple(ranked))} at the same time. Keep one of them.")
    return ranked[0]


def _rank(annotation: Annotation, defined_on: str) -> tuple[str, bool]:
    return annotation.annotated_at, annotation.series_instance_uid == defined_on


def _conflict(candidates: tuple[Annotation, ...]) -> str:
    return f"Its {candidates[0].label} is annotated both in {candidates[0].where} and in {candidates[1].where}"


def _names(label: Label) -> tuple[str, ...]:
    return label.name, label.title, *_ALSO_CALLED.get(label, ())


def _words(file_name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", file_name.split(".", maxsplit=1)[0].casefold()) if word]


def _phrases(words: list[str]) -> Iterator[tuple[int, str]]:
    """Yield all runs of words with the place of their first: "adc_abnormality" is one name of two words."""
    for first in range(len(words)):
        for last in range(first + 1, len(words) + 1):
            yield first, "".join(words[first:last])


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())
