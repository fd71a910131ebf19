"""Read descriptions as people meant them: part the words that they glued together, and mend a wrong letter.

Radiographers write "3DT1MPRAGEGD" for "3D T1 MPRAGE GD", and "T1MRAGE". A word is parted only if it consists of known
words from beginning to end and one of them names a sequence or a weighting, so that no other word falls apart.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

LONG, LONGER = 5, 7
"""Letters from which a name, and any other known word, is recognised with one letter wrong; shorter ones are too like
others."""
_NUMBERED = re.compile(r"b\d{2,4}|[23]d|\d{1,2}")
"""b-values, dimensions, and a number behind a word."""
_LETTERS = "seo"
"""Letters that Philips and Siemens put before a sequence: "s3DT1", "eT1W", "oT2"."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words that descriptions are made of; lower case, no accents."""

    names: frozenset[str] = frozenset()
    """Names of sequences and weightings."""
    others: frozenset[str] = frozenset()
    """Words that stand beside them: planes, contrast agents, and words that are like a name but mean something else."""


def normalised(description: str) -> str:
    """Normalise a description: no accents on Latin letters, camelCase parted, lower case, underscores as spaces."""
    plain: list[str] = []
    for char in unicodedata.normalize("NFKD", description):
        if not (unicodedata.combining(char) and plain and plain[-1].isascii()):
            plain.append(char)
    # Letters of other scripts are put together again: without its marks, a Korean or Cyrillic letter is another.
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", "".join(plain)))
    lower = re.sub(r"[\s_,;]+", " ", parted).strip().lower()
    return re.sub(r"[тτ](?=[12])", "t", lower)  # T1 and T2 written with a Cyrillic or Greek letter


def respelled(text: str, vocabulary: Vocabulary) -> str:
    """Return a text from `normalised` with glued words parted and misspelt names mended."""
    return re.sub(r"[a-z0-9]+", lambda word: _parts(word[0], vocabulary), text)


@lru_cache(maxsize=4096)
def _parts(word: str, vocabulary: Vocabulary) -> str:
    if len(word) < 4 or word in vocabulary.names or word in vocabulary.others:
        return word
    # best[n] is the cheapest way to read the first n letters: (wrong letters, number of words, words, names among them)
    best: list[tuple[int, int, tuple[str, ...], bool] | None] = [None] * (len(word) + 1)
    best[0] = (0, 0, (), False)
    for start in range(len(word)):
        before = best[start]
        if before is None:
            continue
        for end in range(start + 1, len(word) + 1):
            read = _read(word[start:end], vocabulary, at_start=start == 0, at_end=end == len(word))
            if read is None or before[0] + read[1] > 1:
                continue
            known, wrong = read
            found = (before[0] + wrong, before[1] + 1, (*before[2], known), before[3] or known in vocabulary.names)
            here = best[end]
            if here is None or found[:2] < here[:2]:
                best[end] = found
    whole = best[len(word)]
    return " ".join(whole[2]) if whole is not None and (whole[3] or whole[1] == 1) else word


def _read(piece: str, vocabulary: Vocabulary, at_start: bool, at_end: bool) -> tuple[str, int] | None:
    """Return the known word that a piece is, and how many of its letters are wrong; None if it is none."""
    if piece in vocabulary.names or piece in vocabulary.others:
        return piece, 0
    if at_start and not at_end and piece in _LETTERS:
        return piece, 0
    if _NUMBERED.fullmatch(piece) and (not piece.isdigit() or (at_end and not at_start)):
        return piece, 0
    for words, least in ((vocabulary.names, LONG), (vocabulary.others, LONGER)):
        for known in sorted(words) if len(piece) >= least - 1 else ():
            if len(known) >= least and _one_wrong(piece, known):
                return known, 1
    return None


def _one_wrong(piece: str, known: str) -> bool:
    """Return whether a piece is a known word with a letter wrong, missing, extra or exchanged; not the first."""
    if piece[0] != known[0] or abs(len(piece) - len(known)) > 1 or piece == known:
        return False
    same = next((n for n, (a, b) in enumerate(zip(piece, known, strict=False)) if a != b), min(len(piece), len(known)))
    left, right = piece[same:], known[same:]
    if len(left) == len(right):
        return left[1:] == right[1:] or (left[:2] == right[:2][::-1] and left[2:] == right[2:])
    return left[1:] == right if len(left) > len(right) else left == right[1:]
