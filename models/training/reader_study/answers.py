"""What readers exported, read and checked against the key. Computes no statistics."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.training.dataset.manifest import DatasetBroken
from models.training.reader_study.answer_key import Key
from models.training.reader_study.form import ANSWERS_FORMAT
from models.training.reader_study.likert_scale import AnswerWrong, Judgement, Missing

ANSWERS_FOLDER = "answers"
_MISSING = "missing_"


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader's judgements."""

    reader: str
    scores: Mapping[str, int]
    """By item."""


def read_answers(path: Path, key: Key) -> Reading:
    """A file that the form exported, JSON or CSV; every score is computed anew. Raises DatasetBroken."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        study, reader, rows = _json(text) if path.suffix.lower() == ".json" else _csv(text)
    except OSError as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc.strerror}.") from exc
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as exc:
        raise DatasetBroken(f"{path} is no file of answers that the form exported. Export it once more.") from exc
    if study != key.study:
        raise DatasetBroken(f"{path} holds answers of study {study}, and this is {key.study}.")
    known = {item.item_id for item in key.items}
    scores: dict[str, int] = {}
    for item, row in rows:
        if item not in known or item in scores:
            raise DatasetBroken(f"{path}: item {item} is not in this study, or twice in this file.")
        try:
            scores[item] = _judgement(row, key.sequences).score
        except (AnswerWrong, KeyError, ValueError) as exc:
            raise DatasetBroken(f"{path}, item {item}: the answer is incomplete or wrong ({exc}).") from exc
        if "score" in row and int(row["score"]) != scores[item]:
            raise DatasetBroken(
                f"{path}, item {item}: it says score {row['score']}, its answers come to {scores[item]}. "
                "Was the file edited? Export it once more."
            )
    if not scores:
        raise DatasetBroken(f"{path} holds no complete answer.")
    return Reading(reader, scores)


def find_answers(folder: Path, given: Sequence[Path]) -> tuple[Path, ...]:
    """The files given or, where none is, those in the study's folder `answers`. Raises DatasetBroken."""
    inside = folder / ANSWERS_FOLDER
    found = tuple(given) or tuple(sorted(path for path in inside.glob("*") if path.suffix.lower() in (".json", ".csv")))
    if not found:
        raise DatasetBroken(f"There are no answers. Put the files that readers exported into {inside}, or name them.")
    return found


def read_all(paths: Iterable[Path], key: Key) -> tuple[Reading, ...]:
    """One reading for each file. Raises DatasetBroken, also where a reader comes twice."""
    readings = tuple(read_answers(path, key) for path in paths)
    names = [reading.reader for reading in readings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DatasetBroken(f"There are two files of reader {min(twice)}; keep the one that counts.")
    return readings


def _json(text: str) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    document = json.loads(text)
    if document["format"] != ANSWERS_FORMAT:
        raise ValueError("another format")
    return str(document["study"]), str(document["reader"]), list(document["answers"].items())


def _csv(text: str) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    rows = list(csv.DictReader(text.splitlines()))
    studies, readers = ({row[name] for row in rows} for name in ("study", "reader"))
    if len(studies) != 1 or len(readers) != 1:
        raise ValueError("not of one reader and one study")
    read = []
    for row in rows:
        missing = {name.removeprefix(_MISSING): value for name, value in row.items() if name.startswith(_MISSING)}
        said = {name: {"true": True, "false": False}[row[name].lower()] for name in ("consistent", "includes_normal")}
        read.append((row["item"], {**said, "missing": missing, "score": row["score"]}))
    return studies.pop(), readers.pop(), read


def _judgement(row: Mapping[str, Any], sequences: Sequence[str]) -> Judgement:
    consistent, includes_normal = row["consistent"], row["includes_normal"]
    if not isinstance(consistent, bool) or not isinstance(includes_normal, bool):
        raise AnswerWrong("a step is neither yes nor no")
    missing = tuple((name, Missing(row["missing"][name])) for name in sequences)
    return Judgement(consistent, missing, includes_normal)
