"""Files of instances that others took the place of, beside those.

    <series>/<SOP instance UID>.dcm
    <series>/<SOP instance UID>-<n>.replaced      from the n-th time on, n from 1

A file takes the place of another by a rename, after the other got a second name. So whoever opens the first name finds
one of them whole, and no crash loses either.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.atomic_write import sync_folder

_SUFFIX = ".replaced"


def replace_file(final: Path, new: Path) -> None:
    """Let the synced file `new` take the place of `final`, durably when this returns.

    Raises OSError; FileNotFoundError where there is no `final`.
    """
    with _locked(final.parent):
        earlier = replaced_files(final)
        number = _number(earlier[-1]) + 1 if earlier else 1
        with suppress(FileExistsError):  # a crash came before the rename
            os.link(final, final.with_name(f"{final.stem}-{number}{_SUFFIX}"))
        new.rename(final)
        sync_folder(final.parent)


def keep_replaced(final: Path, earlier: Path) -> None:
    """Keep the file `earlier` beside `final`, as the latest one that it took the place of. Raises OSError."""
    with _locked(final.parent):
        name = final.name if final.suffix == ".dcm" else f"{final.name.partition('-')[0]}.dcm"
        known = replaced_files(final.with_name(name))
        number = _number(known[-1]) + 1 if known else 1
        os.link(earlier, final.with_name(f"{name.removesuffix('.dcm')}-{number}{_SUFFIX}"))


def replaced_files(final: Path) -> tuple[Path, ...]:
    """Return the files that `final` took the place of, oldest first."""
    found = [path for path in final.parent.glob(f"{final.stem}-*{_SUFFIX}") if _number(path)]
    return tuple(path for path in sorted(found, key=_number) if not _is_one_file(path, final))


def replacing_files(study: Path) -> tuple[Path, ...]:
    """Return the files in the series of a study that took the place of others, sorted."""
    names = {path.with_name(f"{path.name.partition('-')[0]}.dcm") for path in study.glob(f"*/*-*{_SUFFIX}")}
    return tuple(final for final in sorted(names) if replaced_files(final))


def _number(path: Path) -> int:
    """Return the number in the name of a file that was replaced; 0 for any other name."""
    number = path.name.removesuffix(_SUFFIX).partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _is_one_file(path: Path, final: Path) -> bool:
    """Whether two names are of one file: a crash came between the second name and the rename."""
    try:
        return path.samefile(final)
    except FileNotFoundError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others, in this process or another one, from replacing files of a series."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
