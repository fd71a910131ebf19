"""Replace a file in one step, so that a reader, also after a crash, finds the old content or the new, never a part.

write .<name>.part  ->  fsync it  ->  rename it to <name>  ->  fsync the folder

A power cut may take any file and any name in a folder that was not synced: the name of a new folder, too, with all that
is in it. So folders for what must stay are made by `make_folders`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes | memoryview | str, *, durable: bool = True) -> None:
    """Write `content` (text as UTF-8) to `path` as `replacing` does. Raises OSError."""
    with replacing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write to, and rename it to `path` when the block ends without an exception.

    With `durable`, the content and the rename are on disk when the block has ended. Without, both syncs are left out:
    for files that nobody misses after a power cut, such as copies of what another host has.

    One writer for each path at a time. What a killed process left of a `.part` file, the next write replaces. When the
    block or the disk fails, the file at `path` stays as it was, and the `.part` file is removed. Raises OSError.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def make_folders(folder: Path, within: Path | None = None, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing; their names are on disk when this returns.

    Also the names that are there already, from `within` down: who made them may not have come to it yet, or was killed.
    Without `within`, that is the name of `folder` alone. Raises OSError.
    """
    way = [folder]
    wanted = within
    for parent in folder.parents:
        way.append(parent)
        wanted = None if parent == wanted else wanted
        if wanted is None and parent.is_dir():
            break
    assert wanted is None, f"{within} is above {folder}"
    for parent, each in pairwise(reversed(way)):
        made = True
        try:
            each.mkdir(mode)
        except FileExistsError:
            made = False
        try:
            sync_folder(parent)
        except PermissionError:  # the site made the folder, in one that this process may not read
            if made:
                raise


def sync_folder(folder: Path) -> None:
    """Write the entries of a folder to disk; a new or renamed file survives a power cut only then. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
