"""Do independent pieces of work in processes of their own, of which any may die. Knows not what the work is."""

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
"""Called once in each process; what it returns does the pieces and raises nothing. Picklable."""

# A fork would inherit the threads of torch; a spawned process starts clean.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Died(Generic[Piece]):
    """A piece during which its process ended."""

    piece: Piece
    exit_code: int | None
    """Negative: the signal that ended it (9 where memory ran out)."""


@dataclass(slots=True)
class _Lane(Generic[Piece]):
    process: BaseProcess
    connection: Connection
    piece: Piece
    """What it does now."""


def in_lanes(opener: Opener[Piece, Result], pieces: Sequence[Piece], lanes: int) -> Generator[Result | Died[Piece]]:
    """Results in the order in which they are ready, by so many processes; 1 is this process itself.

    A process that dies costs its piece and is replaced. All of them end with the iterator.
    """
    if lanes == 1:
        yield from map(opener(), pieces)
        return
    waiting = deque(pieces)
    busy = [_started(opener, waiting.popleft()) for _ in range(min(lanes, len(waiting)))]
    try:
        while busy:
            ready = wait([lane.connection for lane in busy])
            for lane in [each for each in busy if each.connection in ready]:
                busy.remove(lane)
                try:
                    result: Result | Died[Piece] = lane.connection.recv()
                except (EOFError, OSError):
                    lane.process.join()
                    result = Died(lane.piece, lane.process.exitcode)
                    _ended(lane)
                    if waiting:
                        busy.append(_started(opener, waiting.popleft()))
                else:
                    if waiting:
                        lane.piece = waiting.popleft()
                        with suppress(OSError):  # died just now: the next turn finds out
                            lane.connection.send(lane.piece)
                        busy.append(lane)
                    else:
                        _ended(lane)
                yield result
    finally:
        for lane in busy:
            _ended(lane)


def _started(opener: Opener[Piece, Result], piece: Piece) -> _Lane[Piece]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(opener, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection
    ours.send(piece)
    return _Lane(process, ours, piece)


def _ended(lane: _Lane[Piece]) -> None:
    lane.connection.close()
    lane.process.terminate()
    lane.process.join()
    lane.process.close()


def _serve(opener: Opener[Piece, Result], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    work = opener()
    while True:
        try:
            connection.send(work(connection.recv()))
        except (EOFError, BrokenPipeError):  # the one that started this is gone
            return
