"""What can fail between the rooms of the node. The errors between headers and a result are in `pipeline.errors`."""

from pipeline.errors import GlionodeError


class ArchiveAway(GlionodeError):
    """The archive of the other host does not answer, or does not let us in."""


class NotInArchive(GlionodeError):
    """The archive of the other host has not what was asked for; it may have been purged."""


class PeerFailed(Exception):
    """The peer cannot be reached, refuses, or breaks off."""


class DatabaseUnavailable(GlionodeError):
    """The database does not start or does not answer."""
