"""Names for patients and studies that tell nothing: keyed hashes. Knows no DICOM and no data set."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from models.training.dataset.manifest import DatasetBroken

_KEY_BYTES = 32
_DIGITS = 16
"""Of 4 bits each: two of a million patients share a name with a chance of 3 in a hundred million."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives names by HMAC-SHA256 (RFC 2104). Without the key nobody finds out which patient has which."""

    key: bytes = field(repr=False)

    def __call__(self, kind: str, *parts: str) -> str:
        """The name of something, such as a "patient", 16 hexadecimal digits."""
        message = "\n".join((kind, *parts)).encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_DIGITS]

    @property
    def fingerprint(self) -> str:
        """Tells whether two data sets name patients by one key, and nothing else of it."""
        return self("key")


def open_key(path: Path, out: Path) -> Pseudonyms:
    """The key in the file `path`, which is made, for its owner alone, where it is not there.

    One key for all data sets of a site: a patient then has one name in all of them. Raises DatasetBroken where the key
    would lie in the folder `out`, which is meant to be given away, or is none.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise DatasetBroken(f"The key {path} would lie in the data set that it is to protect. Choose another place.")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as exc:
        raise DatasetBroken(f"The key {path} cannot be read or made: {exc.strerror or exc}.") from exc
    except ValueError as exc:
        raise DatasetBroken(f"{path} is no key of a data set: it is not hexadecimal. Choose another file.") from exc
    if len(key) < _KEY_BYTES:
        raise DatasetBroken(f"{path} is no key of a data set: it has {len(key)} bytes, not {_KEY_BYTES}.")
    return Pseudonyms(key)
