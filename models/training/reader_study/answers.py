"""Read the answers that readers exported, and check them against the key."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from models.training.dataset.manifest import DatasetBroken
from models.training.reader_study.answer_key import Key
from models.training.reader_study.likert_scale import AnswerWrong, Judgement, Missing
from models.validation import StrictModel, describe_first_error

ANSWERS_FOLDER = "answers"
ANSWERS_FORMAT: Literal[1] = 1
"""Version of the files that the form exports."""
_MISSING = "missing_"


@dataclass(frozen=True, slots=True)
class Reading:
    """The judgements of one reader."""

    reader: str
    scores: Mapping[str, int]
    """The score of each item by its id."""


class _Answer(StrictModel):
    """The answer to one item."""

    consistent: bool
    missing: dict[str, Missing]
    includes_normal: bool
    seconds: float = 0
    """How long the reader took; not used."""
    score: int | None = None
    """The score as the form computed it."""


class _AnswersFile(StrictModel):
    """What the form exports as JSON."""

    format: Literal[1]
    study: str
    reader: str
    answers: dict[str, _Answer]


def read_answers(path: Path, key: Key) -> Reading:
    """Read a file that the form exported, JSON or CSV, and compute every score again. Raises DatasetBroken."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        file = _AnswersFile.model_validate_json(text) if path.suffix.lower() == ".json" else _read_csv(text)
    except OSError as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc.strerror}.") from exc
    except ValidationError as exc:
        raise DatasetBroken(
            f"{path} is not as the form exports answers: {describe_first_error(exc)}. Export it once more."
        ) from exc
    except (ValueError, csv.Error) as exc:
        raise DatasetBroken(f"{path} is not as the form exports answers: {exc}. Export it once more.") from exc
    if file.study != key.study:
        raise DatasetBroken(f"{path} holds answers of study {file.study}, and this is {key.study}.")
    known = {item.item_id for item in key.items}
    scores: dict[str, int] = {}
    for item, answer in file.answers.items():
        if item not in known:
            raise DatasetBroken(f"{path}: item {item} is not in this study.")
        try:
            scores[item] = _judgement(answer, key.sequences).score
        except AnswerWrong as exc:
            raise DatasetBroken(f"{path}, item {item}: the answer is incomplete or wrong ({exc}).") from exc
        if answer.score is not None and answer.score != scores[item]:
            raise DatasetBroken(
                f"{path}, item {item}: the file states score {answer.score}, its answers come to {scores[item]}. "
                "Was the file edited? Export it once more."
            )
    if not scores:
        raise DatasetBroken(f"{path} holds no complete answer.")
    return Reading(file.reader, scores)


def find_answers(folder: Path, given: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files given or, without any, those in the study's folder `answers`. Raises DatasetBroken."""
    inside = folder / ANSWERS_FOLDER
    found = tuple(given) or tuple(sorted(path for path in inside.glob("*") if path.suffix.lower() in (".json", ".csv")))
    if not found:
        raise DatasetBroken(f"There are no answers. Put the files that readers exported into {inside}, or name them.")
    return found


def read_all(paths: Iterable[Path], key: Key) -> tuple[Reading, ...]:
    """Read one reading from each file. Raises DatasetBroken, also where two files are of one reader."""
    readings = tuple(read_answers(path, key) for path in paths)
    names = [reading.reader for reading in readings]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DatasetBroken(f"There are two files of reader {min(repeated)}; keep the one that counts.")
    return readings


def _read_csv(text: str) -> _AnswersFile:
    """Read a CSV of the form. Raises ValueError, of which ValidationError is one."""
    rows = list(csv.DictReader(text.splitlines()))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer cells than the header")
    names = [(row.pop("study", None), row.pop("reader", None), row.pop("item", None)) for row in rows]
    studies, readers = {study for study, _, _ in names}, {reader for _, reader, _ in names}
    items = [item for _, _, item in names]
    if len(studies) != 1 or len(readers) != 1 or None in items:
        raise ValueError("it has to hold the columns study, reader and item, of one study and one reader")
    if len(set(items)) != len(items):
        raise ValueError("an item is twice in it")
    answers = {}
    for item, row in zip(items, rows, strict=True):
        missing = {name.removeprefix(_MISSING): row.pop(name) for name in list(row) if name.startswith(_MISSING)}
        answers[item] = _Answer.model_validate_strings({**row, "missing": missing})
    return _AnswersFile(format=ANSWERS_FORMAT, study=studies.pop(), reader=readers.pop(), answers=answers)


def _judgement(answer: _Answer, sequences: Sequence[str]) -> Judgement:
    if set(answer.missing) != set(sequences):
        raise AnswerWrong(f"it has to judge {', '.join(sequences)}, and judges {', '.join(answer.missing) or 'none'}")
    return Judgement(
        answer.consistent, tuple((name, answer.missing[name]) for name in sequences), answer.includes_normal
    )
