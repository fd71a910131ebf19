"""Pseudonyms for patients and studies: hashes under a key that stays with the site."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from models.training.dataset.manifest import DatasetBroken

_KEY_BYTES = 32
_DIGITS = 16
"""Hexadecimal digits of a pseudonym: among a million patients two share one with a probability of 3e-8."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes pseudonyms by HMAC-SHA256 (RFC 2104). Without the key nobody can tell which patient has which."""

    key: bytes = field(repr=False)

    def __call__(self, kind: str, *parts: str) -> str:
        """Return a pseudonym of 16 hexadecimal digits; `kind` is what is named, such as "patient"."""
        message = "\n".join((kind, *parts)).encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_DIGITS]

    @property
    def fingerprint(self) -> str:
        """Return a hash by which two data sets can tell that they used the same key. It does not reveal the key."""
        return self("key")


def open_key(path: Path, out: Path) -> Pseudonyms:
    """Read the key in the file `path`; make it, readable by its owner only, if the file is missing.

    With one key for all data sets of a site, a patient has the same pseudonym in all of them. Raises DatasetBroken if
    the key would be inside of the folder `out`, which may be given away, or if the file holds no key.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise DatasetBroken(f"The key {path} would be inside of the data set that it protects. Choose another folder.")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as exc:
        raise DatasetBroken(f"The key {path} cannot be read or written: {exc.strerror or exc}.") from exc
    except ValueError as exc:
        raise DatasetBroken(f"{path} is not a key of a data set: it is not hexadecimal. Choose another file.") from exc
    if len(key) < _KEY_BYTES:
        raise DatasetBroken(
            f"{path} is not a key of a data set: it has {len(key)} bytes, not {_KEY_BYTES}. Choose another file."
        )
    return Pseudonyms(key)
