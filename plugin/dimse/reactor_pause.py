"""The pause that pynetdicom's other thread of an association makes while a message is sent, without a hole in it.

The library clears an event and then asks a flag whether that thread stands still. The flag is old now and then, once in
some 300 messages on a busy machine: the thread runs on, takes the answer for a message that nobody asked for, and who
sent waits for it until the time is over. Here clearing the event returns when the thread does stand still.
"""

import threading

from pynetdicom import Association

_LONGEST_S = 1.0
"""For a thread that has ended, or is the one that asks; an association's looks here every millisecond."""


class ReactorPause(threading.Event):
    """In place of the association's own event, set while the thread may run."""

    def __init__(self) -> None:
        super().__init__()
        self._may_run = True
        self._stands = False
        self._changed = threading.Condition()

    def is_set(self) -> bool:
        """Whether the thread may run."""
        return self._may_run

    def set(self) -> None:
        """Let the thread run."""
        with self._changed:
            self._may_run = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Return when the thread stands still."""
        with self._changed:
            self._may_run = False
            self._changed.wait_for(lambda: self._stands, _LONGEST_S)

    def wait(self, timeout: float | None = None) -> bool:
        """For that thread: return when it may run."""
        with self._changed:
            self._stands = not self._may_run
            self._changed.notify_all()
            ended = self._changed.wait_for(lambda: self._may_run, timeout)
            self._stands = False
            return ended


def pause_without_a_hole(association: Association) -> None:
    """Have an association of ours pause as it should. For one on which nothing was sent yet."""
    association._reactor_checkpoint = ReactorPause()
