"""Say what it means for a result that series were absent."""

from collections.abc import Iterable, Iterator

from models.labels import Role
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import Inferred, NotReported


def absence_remarks(
    absent: Iterable[Role], not_reported: Iterable[NotReported], inferred: Iterable[Inferred]
) -> tuple[Remark, ...]:
    """Return a remark for each series that a result was made without: which labels that left out or made doubtful."""
    lost, guessed = tuple(not_reported), tuple(inferred)
    return tuple(
        Remark(RemarkKind.ABSENT, " ".join(_sentences(role, lost, guessed)), (role,))
        for role in dict.fromkeys([*absent, *(each.absent for each in lost), *(each.absent for each in guessed)])
    )


def _sentences(role: Role, lost: tuple[NotReported, ...], guessed: tuple[Inferred, ...]) -> Iterator[str]:
    yield f"{role} was absent, and the study was segmented without it."
    if titles := [each.label.title for each in lost if each.absent is role]:
        yield f"Not reported, which does not mean that there is none: {_listed(titles)}."
    for each in guessed:
        if each.absent is role:
            yield inferred_sentence(each)


def inferred_sentence(inferred: Inferred) -> str:
    """Return the sentence that goes with an inferred label."""
    return f"{inferred.label.title} was inferred from {_listed(inferred.inferred_from)}."


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
