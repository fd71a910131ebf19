"""What tells which item is whose: it stays with whoever runs the study, apart from what readers get."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.training.dataset.manifest import DatasetBroken

FORMAT = 1
KEY_FILE = "key.json"


class Source(StrEnum):
    """Whose mask an item shows."""

    MODEL = "model"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Item:
    """One segmentation to be judged."""

    item_id: str
    """Drawn by chance; says nothing."""
    case_id: str
    source: Source
    repeat_of: str | None
    """The item of which this is a second showing."""


@dataclass(frozen=True, slots=True)
class Key:
    """All of `key.json`."""

    study: str
    """Drawn by chance; answers name it."""
    seed: int
    model: str
    weights_sha256: str
    dataset_fingerprint: str
    sequences: tuple[str, ...]
    items: tuple[Item, ...]
    foci: Mapping[str, int]
    """Separate foci in the truth of each case."""


def key_json(key: Key) -> str:
    """The key for its file."""
    return json.dumps({"format": FORMAT, **asdict(key)}, indent=1) + "\n"


def read_key(folder: Path) -> Key:
    """The key of a study in the folder that `glionode reader-study make` made. Raises DatasetBroken."""
    path = folder / KEY_FILE
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise DatasetBroken(f"{path}: format is {document['format']!r}; this version of glionode reads {FORMAT}.")
        return Key(
            study=str(document["study"]),
            seed=int(document["seed"]),
            model=str(document["model"]),
            weights_sha256=str(document["weights_sha256"]),
            dataset_fingerprint=str(document["dataset_fingerprint"]),
            sequences=tuple(str(name) for name in document["sequences"]),
            items=tuple(
                Item(each["item_id"], each["case_id"], Source(each["source"]), each["repeat_of"])
                for each in document["items"]
            ),
            foci={str(case): int(count) for case, count in document["foci"].items()},
        )
    except OSError as exc:
        raise DatasetBroken(
            f"{path} cannot be read ({exc.strerror}). Give the folder that `glionode reader-study make` made."
        ) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DatasetBroken(f"{path} is no key of a reader study. Give the folder that `make` made.") from exc
