"""The application entity that opens associations: pynetdicom's, without two faults of its associations.

An answer may get lost (see plugin/dimse/reactor_pause.py). And a connection that the peer refused or reset stays
open until the garbage collector comes by, as the library closes what it could shut down alone.
"""

import ssl
from typing import Any

from pynetdicom import AE, Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from plugin.dimse.reactor_pause import pause_without_a_hole


class ApplicationEntity(AE):  # type: ignore[misc, unused-ignore]
    """In place of pynetdicom's own where an association is asked for."""

    def associate(self, *arguments: Any, **options: Any) -> Association:
        """As pynetdicom's."""
        association = super().associate(*arguments, **options)
        if association.is_established:
            pause_without_a_hole(association)
        return association

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        connection = _ClosedSocket(assoc, address=address)
        connection.tls_args = tls_args
        return connection


class _ClosedSocket(AssociationSocket):  # type: ignore[misc, unused-ignore]
    """A connection that is closed at its end, also where the peer ended it first."""

    def _shutdown_socket(self) -> None:
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()
