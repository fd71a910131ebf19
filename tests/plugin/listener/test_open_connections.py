"""Which connection of the listener ends for another one, and which by its age."""

from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from plugin.listener import open_connections
from plugin.listener.access_control import Refusal
from plugin.listener.open_connections import OpenConnection, OpenConnections
from plugin.settings.sections import ListenerSettings

SETTINGS = ListenerSettings(max_associations=6, max_associations_per_peer=4, max_associations_per_ae_title=3)


class Crowd:
    """Connections that are open at once, on a clock of the test's own."""

    def __init__(self, stack: ExitStack) -> None:
        self.now = 1000.0
        self.all = OpenConnections(SETTINGS)
        self.ended: list[tuple[OpenConnection, Refusal]] = []
        self.refused: list[Refusal] = []
        self._stack = stack

    def open(self, address: str, title: str | None = None, useful: float = 0.0) -> OpenConnection:
        """Open a connection, and request an association unless `title` is None; `useful` seconds ago it was."""
        made = OpenConnection(address, lambda why: self.ended.append((made, why)))
        refusal = self._stack.enter_context(self.all.counted(made))
        if refusal is None and title is not None:
            refusal = self.all.request(made, title)
        made.last_useful = self.now - useful
        self.refused += [refusal] if refusal is not None else []
        return made


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    with ExitStack() as stack:
        made = Crowd(stack)
        monkeypatch.setattr(open_connections, "time", SimpleNamespace(monotonic=lambda: made.now))
        yield made


def test_a_useless_one_of_the_same_address_gives_way(crowd: Crowd) -> None:
    other = crowd.open("b", "B", useful=500)
    mine = [crowd.open("a", f"A{number}", useful=useful) for number, useful in enumerate((20, 200, 30, 1))]
    crowd.open("a", "A4")
    assert (crowd.ended, crowd.refused) == ([(mine[1], Refusal.GAVE_WAY)], []), "though another address has a worse one"
    assert other not in [each for each, _ in crowd.ended]


def test_those_that_were_useful_lately_stay(crowd: Crowd) -> None:
    for number in range(4):
        crowd.open("a", f"A{number}", useful=9)
    crowd.open("a", "A4")
    assert (crowd.ended, crowd.refused) == ([], [Refusal.TOO_MANY_OF_PEER])


def test_at_the_limit_of_all_the_address_with_most_useless_ones_gives_way(crowd: Crowd) -> None:
    crowd.open("b", "B", useful=900)
    mine = [crowd.open("a", f"A{number}", useful=useful) for number, useful in enumerate((20, 25, 30))]
    for number in range(2):
        crowd.open("c", f"C{number}", useful=1)
    crowd.open("d", "D")
    assert (crowd.ended, crowd.refused) == ([(mine[2], Refusal.GAVE_WAY)], [])


def test_silent_connections_give_way_at_once(crowd: Crowd) -> None:
    silent = [crowd.open("a") for _ in range(3)] + [crowd.open("b") for _ in range(3)]
    crowd.now += 0.001
    crowd.open("c", "C")
    assert (crowd.ended, crowd.refused) == ([(silent[0], Refusal.GAVE_WAY)], [])


def test_associations_of_a_title_are_limited_over_all_addresses(crowd: Crowd) -> None:
    first, *_ = [crowd.open(address, "MR", useful=5) for address in "abc"]
    crowd.open("d", "MR ")
    assert (crowd.ended, crowd.refused) == ([], [Refusal.TOO_MANY_OF_TITLE])
    first.last_useful -= 10
    crowd.open("e", "MR")
    # The rejected one was useful never, and it is open still.
    assert [why for _, why in crowd.ended] == [Refusal.GAVE_WAY]


def test_an_image_that_is_being_stored_is_waited_for(crowd: Crowd) -> None:
    mine = [crowd.open("a", f"A{number}", useful=1000) for number in range(3)]
    with ExitStack() as stack:
        for each in mine:
            each.receives_object = True
            stack.enter_context(each.storing())
        crowd.open("a", "A3", useful=1)
        crowd.open("a", "A4")
        crowd.all.end_overdue()
    assert (crowd.ended, crowd.refused) == ([], [Refusal.TOO_MANY_OF_PEER])


def test_age_counts_from_the_last_image(crowd: Crowd) -> None:
    sending, echoing, silent = crowd.open("a", "SENDING"), crowd.open("a", "ECHOING"), crowd.open("b")
    for _ in range(100):
        crowd.now += 50
        with sending.storing():
            crowd.now += 5
        crowd.all.end_overdue()
    assert crowd.ended == [(echoing, Refusal.USELESS)], "and the time to the request is limited elsewhere"
    assert silent.calling_ae_title is None


def test_an_image_has_to_grow(crowd: Crowd) -> None:
    growing, trickling = crowd.open("a", "GROWING"), crowd.open("a", "TRICKLING")
    growing.receives_object = trickling.receives_object = True
    for _ in range(10):
        crowd.now += 50
        growing.received(16384)
        trickling.received(1000)
        crowd.all.end_overdue()
    assert crowd.ended == [(trickling, Refusal.TOO_SLOW)]


def test_at_the_end_those_that_are_left_are_ended(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_connections, "_END_WITHIN_S", 0.0)
    mine = [crowd.open("a"), crowd.open("a", "A", useful=1000), crowd.open("a", "B")]
    mine[2].waits_for_us = True
    crowd.all.end_all(0.0)
    assert crowd.ended == [(each, Refusal.STOPPING) for each in mine]
