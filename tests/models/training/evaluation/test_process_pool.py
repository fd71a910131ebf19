"""Several processes give the results of one, and a process that dies loses its own piece only.

Openers and pieces are of the standard library: a new process finds them wherever the tests lie.
"""

import math
import multiprocessing
import operator
import os
import time
from functools import partial

from models.training.evaluation.process_pool import ProcessDied, run_in_processes

CALL = partial(operator.methodcaller, "__call__")
"""Opens to a function that calls what it is given."""


def test_processes_find_what_one_finds() -> None:
    pieces = [partial(math.factorial, number) for number in range(7)]
    alone = list(run_in_processes(CALL, pieces, 1))
    assert alone == [1, 1, 2, 6, 24, 120, 720]
    assert sorted(run_in_processes(CALL, pieces, 2)) == alone


def test_a_process_that_dies_loses_its_piece_and_no_other() -> None:
    fatal = partial(os._exit, 7)
    pieces = [partial(math.factorial, 3), fatal, *(partial(math.factorial, number) for number in range(4, 8))]
    results = list(run_in_processes(CALL, pieces, 2))
    assert [(each.piece.func, each.exit_code) for each in results if isinstance(each, ProcessDied)] == [(os._exit, 7)]
    assert sorted(each for each in results if not isinstance(each, ProcessDied)) == [6, 24, 120, 720, 5040]


def test_every_process_that_dies_is_replaced() -> None:
    results = list(run_in_processes(CALL, [partial(os._exit, number) for number in (3, 4, 5, 6)], 2))
    assert sorted(each.exit_code for each in results if isinstance(each, ProcessDied)) == [3, 4, 5, 6]


def test_the_processes_are_others_and_end_with_the_iterator() -> None:
    results = run_in_processes(CALL, [os.getpid, os.getpid, partial(time.sleep, 600)], 2)
    assert os.getpid() not in {next(results), next(results)}
    assert multiprocessing.active_children()
    results.close()
    assert not multiprocessing.active_children()
