"""A server that sends raw responses, for tests of HTTP clients."""

import socket
import threading


class ScriptedServer:
    """Responds to each request with the next of some raw responses, to further ones with the last."""

    def __init__(self, *responses: bytes, keep_open: bool = False) -> None:
        """With `keep_open` a connection stays open after a response; else it is closed."""
        self._responses = list(responses)
        self._keep_open = keep_open
        self.requests: list[bytes] = []
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while request := connection.recv(65536):
                    self.requests.append(request)
                    connection.sendall(self._responses.pop(0) if len(self._responses) > 1 else self._responses[0])
                    if not self._keep_open:
                        return
            except OSError:  # the client closed the connection
                return

    def close(self) -> None:
        """Stop accepting connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
