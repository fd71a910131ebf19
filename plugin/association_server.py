"""The listening socket: a thread looks after each connection and cleans up behind it. Knows no data sets."""

import socket
from typing import Any

from pynetdicom import evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from plugin.streaming import BeginFile, StreamingProvider


class AssociationServer(ThreadedAssociationServer):  # type: ignore[misc, unused-ignore]
    """pynetdicom's server, with data sets that go to disk; made through `AE.make_server`."""

    daemon_threads = True
    block_on_close = False  # Listener.stop gives running associations a time of their own
    request_queue_size = 128

    def __init__(self, *args: Any, begin_file: BeginFile, **options: Any) -> None:
        self.begin_file = begin_file
        super().__init__(*args, request_handler=_Connection, **options)


class _Connection(RequestHandler):  # type: ignore[misc, unused-ignore]
    """A connection from its acceptance to its end."""

    server: AssociationServer

    def handle(self) -> None:
        """Run the association and return when it is over."""
        # An answer is one small packet; with Nagle's algorithm it waits for the peer's delayed acknowledgement (40 ms).
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association = self._create_association()
        association.dimse = provider = StreamingProvider(association, self.server.begin_file)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        try:
            association.start()
            association.join()
            association.dul.join()
        finally:
            provider.discard()
