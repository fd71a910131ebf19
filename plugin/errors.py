"""Errors that cross the rooms of the node.

`pipeline.errors` has those that can occur between reading headers and writing a result.
"""

from pipeline.errors import GlionodeError


class ArchiveUnavailable(GlionodeError):
    """The remote archive does not answer or refuses access."""


class NotInArchive(GlionodeError):
    """The remote archive does not have the requested object; it may have been deleted."""


class PeerFailed(Exception):
    """The peer cannot be reached, refuses the request, or breaks the connection."""


class DatabaseUnavailable(GlionodeError):
    """The database does not start or does not answer."""
