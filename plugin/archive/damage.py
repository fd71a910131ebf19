"""See whether a file in the archive is still the one that was received: disks lose, cut and change files."""

import hashlib
from pathlib import Path

from plugin.archive.replaced_files import replaced_files


def find_damage(path: Path, received_sha256: str) -> str | None:
    """Return what is wrong with the file of an instance, a clause; None where nothing is known to be.

    `received_sha256` is the digest of the file as it was received, hexadecimal; empty where it is not known. It may be
    that of an earlier file of the instance, where a crash came between the replacement and its record.
    """
    try:
        if path.stat().st_size == 0:
            return "its file is empty"
        found = sha256_hex(path)  # also without a digest: there may be a sector that the disk cannot read
        known = {
            found,
            *(sha256_hex(earlier) for earlier in (replaced_files(path) if found != received_sha256 else ())),
        }
    except FileNotFoundError:
        return "its file is gone"
    except OSError as exc:
        return f"its file cannot be read ({exc.strerror})"
    is_known = not received_sha256 or received_sha256 in known
    return None if is_known else "its file is not the one that was received any more (another SHA-256)"


def sha256_hex(path: Path) -> str:
    """Return the digest of a file, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
