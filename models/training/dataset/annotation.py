"""A label that somebody drew, wherever it came from, and which label a name or a number means. Reads no files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, LABELS, Label, Role
from models.training.dataset.manifest import Annotator
from models.training.dataset.writer import CaseRefused
from pipeline.volume import Geometry

Part = tuple[NDArray[np.bool_], Geometry]
"""Voxels (slice, row, column) and where they stand; a single slice's step to the next means nothing."""

_ALSO_CALLED = {
    ENHANCING_TUMOUR: ("enhancing tumor", "enhancing lesion", "enhancing", "et", "t1ce"),
    ADC_ABNORMALITY: ("adc", "adc lesion"),
    FLAIR_HYPERINTENSITY: ("flair", "flair lesion"),
}
_SERIES = frozenset(role.casefold() for role in Role)
_DENYING = frozenset({"non", "no", "not", "without"})
_OF_THE_BRAIN = frozenset({"bet", "brain", "brainmask", "hdbet", "skull", "skullstrip", "skullstripped", "synthstrip"})
_OF_LESIONS = frozenset({"tumour", "tumor", "lesion", "lesions", "metastasis", "metastases", "glioma", "gbm"})
_SAYING_NOTHING = (
    _SERIES
    | _OF_LESIONS
    | frozenset({"mask", "masks", "seg", "segm", "segmentation", "label", "labels", "labelmap", "map", "roi", "truth"})
    | frozenset({"gt", "manual", "drawn", "drawing", "corrected", "final", "reader", "sub", "ses", "patient", "study"})
)
"""Beside a series' name, words that leave it open that the label of that series is meant."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One label in one object or file."""

    label: str
    parts: tuple[Part, ...]
    annotator: Annotator
    annotated_at: str
    """Date and time as digits, for order alone; "" where the file does not say."""
    series_instance_uid: str
    """The series that it was drawn on; "" where the file does not say, and its place has to."""
    where: str
    """UID or file name, for a sentence."""
    hint: Role | None = None
    """What the file's name says of the series."""


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Which label is meant by a segment's name, its code, or a number in a label map."""

    given: Mapping[str, str] = field(default_factory=dict)
    """A site's own names, codes or numbers, each with the label that it means; they go before ours."""

    def __post_init__(self) -> None:
        known = {label.name for label in LABELS}
        if unknown := set(self.given.values()) - known:
            raise ValueError(f"there is no label {sorted(unknown)[0]}; there are {', '.join(sorted(known))}")

    def called(self, *texts: str) -> str | None:
        """The label of the first of some names that means one."""
        ours = {_plain(name): label.name for label in LABELS for name in _names(label)}
        table = ours | {_plain(text): label for text, label in self.given.items()}
        return next((table[_plain(text)] for text in texts if _plain(text) in table), None)

    def numbered(self, number: int) -> str | None:
        """The label of a number in a label map: the site's, else 1, 2 and 3 as the node (and Wan et al. 2024) count."""
        numbers = {str(label.number): label.name for label in LABELS} | dict(self.given)
        return numbers.get(str(number))

    def in_file_name(self, name: str) -> str | None:
        """The one label that a file's name speaks of; None where it speaks of none or of several.

        `non_enhancing_tumour` speaks of none. The name of a series stands for its label in `adc_mask`, but not beside a
        word that says something else: `t1ce_necrosis`.
        """
        words = _words(name)
        telling = all(word in _SAYING_NOTHING or any(map(str.isdigit, word)) for word in words)
        own = {_plain(text) for text in self.given}
        found = set()
        for first in range(len(words)):
            if first and words[first - 1] in _DENYING:
                continue
            for last in range(first + 1, len(words) + 1):
                # "adc_abnormality" is two words and one name.
                phrase = "".join(words[first:last])
                if not phrase.isdigit() and (telling or phrase in own or phrase not in _SERIES):
                    found.add(self.called(phrase))
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def is_brain(self, name: str) -> bool:
        """Whether a file's name says that it is a mask of the brain, as programs that strip skulls leave them."""
        words = set(_words(name))
        return bool(words & _OF_THE_BRAIN) and not words & _OF_LESIONS and self.in_file_name(name) is None


def decide(candidates: tuple[Annotation, ...], defined_on: str) -> Annotation:
    """Which of several annotations of one label is the truth; `defined_on` is the UID of the label's own series.

    A person's goes before the node's own, a later before an earlier, one on the series that defines the label before
    one on another. Raises CaseRefused where nothing tells which of two is meant.
    """
    persons = tuple(each for each in candidates if each.annotator is Annotator.PERSON)
    candidates = persons or candidates
    if len(candidates) > 1 and not all(each.annotated_at for each in candidates):
        raise CaseRefused(f"{_both(candidates)}, and nothing says which is the later. Keep one of them.")
    ranked = sorted(candidates, key=lambda each: _rank(each, defined_on), reverse=True)
    if len(ranked) > 1 and _rank(ranked[0], defined_on) == _rank(ranked[1], defined_on):
        raise CaseRefused(f"{_both(tuple(ranked))} at the same time. Keep one of them.")
    return ranked[0]


def _rank(annotation: Annotation, defined_on: str) -> tuple[str, bool]:
    return annotation.annotated_at, annotation.series_instance_uid == defined_on


def _both(candidates: tuple[Annotation, ...]) -> str:
    return f"Its {candidates[0].label} is drawn both in {candidates[0].where} and in {candidates[1].where}"


def _names(label: Label) -> tuple[str, ...]:
    return label.name, label.title, *_ALSO_CALLED[label]


def _words(file_name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", file_name.split(".", maxsplit=1)[0].casefold()) if word]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())
