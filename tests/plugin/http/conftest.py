from collections.abc import Callable, Iterator

import pytest

from tests.support.scripted_server import ScriptedServer


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers with raw responses; they end with the test."""
    servers: list[ScriptedServer] = []

    def start(*responses: bytes, keep_open: bool = False) -> ScriptedServer:
        servers.append(ScriptedServer(*responses, keep_open=keep_open))
        return servers[-1]

    yield start
    for each in servers:
        each.close()
