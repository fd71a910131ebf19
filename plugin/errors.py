"""Errors that cross the rooms of the node.

`pipeline.errors` has those that can occur between reading headers and writing a result.
"""

import errno
import os
import traceback
from pathlib import Path

from pipeline.errors import GlionodeError


class ArchiveUnavailable(GlionodeError):
    """The remote archive does not answer or refuses access."""


class NotInArchive(GlionodeError):
    """The remote archive does not have the requested object; it may have been deleted."""


class PeerFailed(Exception):
    """The peer cannot be reached, refuses the request, or breaks the connection."""


class DatabaseUnavailable(GlionodeError):
    """The database does not start or does not answer."""


_OF_DATABASE = ("psycopg", "psycopg_pool")
_OUTAGES = ("OperationalError", "InterfaceError", "PoolTimeout", "PoolClosed", "TooManyRequests")
"""Classes of psycopg for what may pass; its ProgrammingError, for one, is a fault of ours."""
_ADVICE = {
    errno.ENOSPC: "Make room on the disk",
    errno.EDQUOT: "Make room, or raise the quota of the node's user",
    errno.EROFS: "Its file system is read-only: mount it for writing, and look in the system's log for why it is not",
    errno.EACCES: "Run this as the user that owns it, or give that user access",
    errno.EPERM: "Run this as the user that owns it, or give that user access",
    errno.EIO: "The disk fails: look in the system's log",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "Give the node more memory",
}


def describe_outside_failure(exc: BaseException, with_path: bool = False) -> str | None:
    """Return a sentence about an exception that is no fault of glionode: disk, memory or database; None for others.

    The message of a foreign exception may quote a header, so it is left out. `with_path` names the file, whose name a
    user may have chosen.
    """
    names = {each.__name__ for each in type(exc).__mro__ if each.__module__.split(".")[0] in _OF_DATABASE}
    if names & set(_OUTAGES):
        sentence = f"The database does not answer, or refuses ({type(exc).__name__})."
        return f"{sentence} `glionode status` says whether it runs."
    if isinstance(exc, MemoryError) or "OutOfMemoryError" in {each.__name__ for each in type(exc).__mro__}:
        return "Memory did not suffice. Give the node more, or let fewer programs run beside it."
    if isinstance(exc, OSError) and exc.errno is not None:
        file = f"{exc.filename}: " if with_path and exc.filename is not None else ""
        advice = _ADVICE.get(exc.errno)
        return f"{file}{os.strerror(exc.errno)}.{f' {advice}.' if advice else ''}"
    return None


def describe_failure(exc: BaseException, with_path: bool = False) -> str:
    """Return a sentence about any exception, without patient data: only what is our fault is called one."""
    from models.package import PackageBroken  # it needs pydantic, for which commands that do not fail need not wait

    if isinstance(exc, GlionodeError | PackageBroken):
        return str(exc)
    outside = describe_outside_failure(exc, with_path)
    if outside is not None:
        return outside
    frames = traceback.extract_tb(exc.__traceback__)
    place = f" in {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return f"An unexpected {type(exc).__name__}{place}: a defect of glionode or of a library; please report it."
