"""The key of a reader study: which item shows whose mask. It stays with whoever runs the study."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from models.training.dataset.manifest import DatasetBroken
from models.validation import describe_first_error
from pipeline.atomic_write import write_file

FORMAT: Literal[1] = 1
KEY_FILE = "key.json"
_STRICT = ConfigDict(extra="forbid", strict=True)


class MaskSource(StrEnum):
    """Who made the mask that an item shows."""

    MODEL = "model"
    MANUAL = "manual"


@validated_dataclass(frozen=True, slots=True, config=_STRICT)
class Item:
    """One mask of one case, to be judged."""

    item_id: str
    """Drawn at random, so that it does not reveal the source."""
    case_id: str
    source: MaskSource
    repeat_of: str | None
    """The item of which this is the second showing; None for a first showing."""


@validated_dataclass(frozen=True, slots=True, config=_STRICT)
class Key:
    """The content of `key.json`."""

    study: str
    """Drawn at random; answers name it."""
    seed: int
    model: str
    weights_sha256: str
    dataset_fingerprint: str
    sequences: tuple[str, ...]
    items: tuple[Item, ...]
    foci: Mapping[str, int]
    """Separate foci in the truth of each case."""
    format: Literal[1] = FORMAT


def write_key(key: Key, folder: Path) -> None:
    """Write the key into the folder of its study. Raises OSError."""
    write_file(folder / KEY_FILE, json.dumps({"format": key.format, **asdict(key)}, indent=1) + "\n")


def read_key(folder: Path) -> Key:
    """Read the key of a study in the folder that `glionode reader-study make` made. Raises DatasetBroken."""
    path = folder / KEY_FILE
    try:
        return TypeAdapter(Key).validate_json(path.read_bytes())
    except OSError as exc:
        raise DatasetBroken(
            f"{path} cannot be read ({exc.strerror}). Give the folder that `glionode reader-study make` made."
        ) from exc
    except ValidationError as exc:
        raise DatasetBroken(
            f"{path} is no key of a reader study, or of another version of glionode: {describe_first_error(exc)}. "
            "Give the folder that `make` made."
        ) from exc
