"""Do independent pieces of work in processes of their own, any of which may die."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Opener = Callable[[], Callable[[Piece], Result]]
"""Called once in each process; returns the function that does a piece and raises nothing. Picklable."""

# A fork would inherit the threads of torch; a spawned process starts clean.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class ProcessDied(Generic[Piece]):
    """The result of a piece during which its process ended."""

    piece: Piece
    exit_code: int | None
    """Negative: the signal that ended the process (9 where memory ran out)."""


@dataclass(slots=True)
class _Worker(Generic[Piece]):
    process: BaseProcess
    connection: Connection
    piece: Piece
    """The piece that it is doing."""


def run_in_processes(
    opener: Opener[Piece, Result], pieces: Sequence[Piece], processes: int
) -> Generator[Result | ProcessDied[Piece]]:
    """Yield the results of all pieces in the order in which they are ready; with 1 process, do them in this one.

    A process that dies costs its piece and is replaced. All of them end with the iterator.
    """
    if processes == 1:
        yield from map(opener(), pieces)
        return
    waiting = deque(pieces)
    busy = [_start(opener, waiting.popleft()) for _ in range(min(processes, len(waiting)))]
    try:
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [each for each in busy if each.connection in ready]:
                busy.remove(worker)
                try:
                    result: Result | ProcessDied[Piece] = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    result = ProcessDied(worker.piece, worker.process.exitcode)
                    _end(worker)
                    if waiting:
                        busy.append(_start(opener, waiting.popleft()))
                else:
                    if waiting:
                        worker.piece = waiting.popleft()
                        with suppress(OSError):  # it died just now: the next round finds out
                            worker.connection.send(worker.piece)
                        busy.append(worker)
                    else:
                        _end(worker)
                yield result
    finally:
        for worker in busy:
            _end(worker)


def _start(opener: Opener[Piece, Result], piece: Piece) -> _Worker[Piece]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(opener, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection
    ours.send(piece)
    return _Worker(process, ours, piece)


def _end(worker: _Worker[Piece]) -> None:
    worker.connection.close()
    worker.process.terminate()
    worker.process.join()
    worker.process.close()


def _serve(opener: Opener[Piece, Result], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    work = opener()
    while True:
        try:
            connection.send(work(connection.recv()))
        except (EOFError, BrokenPipeError):  # the process that started this one is gone
            return
