"""The pause of pynetdicom's other thread: whoever asked for it can rely on it."""

import threading

import pytest

from plugin.dimse.reactor_pause import ReactorPause
from tests.support.node import wait_until


class Reactor:
    """A thread that runs as the library's does, and takes whatever lies there."""

    def __init__(self) -> None:
        self.pause = ReactorPause()
        self.answers: list[int] = []
        self.stolen: list[int] = []
        self.rounds = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.is_set():
            self.pause.wait()
            self.rounds += 1
            if self.answers:
                self.stolen.append(self.answers.pop())

    def end(self) -> None:
        self.ended.set()
        self.pause.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_nothing_is_taken_while_it_pauses() -> None:
    reactor = Reactor()
    for answer in range(3000):
        reactor.pause.clear()
        before = reactor.rounds
        reactor.answers.append(answer)  # it comes at once, as on a quick network
        assert reactor.answers == [answer]
        assert reactor.rounds == before
        assert reactor.answers.pop() == answer
        reactor.pause.set()
    reactor.end()
    assert reactor.stolen == []


def test_it_is_waited_for_until_it_stands() -> None:
    pause, runs, may_go_on, stands = ReactorPause(), threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        pause.wait()
        runs.set()
        may_go_on.wait(10)
        pause.wait()

    def ask() -> None:
        pause.clear()
        stands.set()

    threads = [threading.Thread(target=run), threading.Thread(target=ask)]
    threads[0].start()
    assert runs.wait(10)
    threads[1].start()
    assert not stands.wait(0.2), "it runs"
    may_go_on.set()
    assert stands.wait(10)
    assert threads[0].is_alive()
    pause.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_it_runs_on_afterwards() -> None:
    reactor = Reactor()
    reactor.pause.clear()
    assert not reactor.pause.is_set()
    stood_at = reactor.rounds
    reactor.pause.set()
    wait_until(lambda: reactor.rounds > stood_at, "it runs on", 5)
    reactor.end()


def test_a_thread_that_has_ended_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.dimse.reactor_pause._LONGEST_S", 0.05)
    pause = ReactorPause()
    pause.clear()
    assert pause.wait(0.01) is False
    pause.set()
    assert pause.wait(0.01) is True
