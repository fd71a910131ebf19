"""The processes that make samples for torch's DataLoader."""

import signal

START_METHOD = "forkserver"
"""How they are started.

A plain fork would inherit the threads of torch. A spawned process is finalised when it ends, and aborts ("terminate
called without an active exception") when its queue's thread is just then handing over a batch; a child of the fork
server leaves without that.
"""


def leave_interrupts_to_training(_number: int) -> None:
    """For `worker_init_fn`: Ctrl-C reaches every process of a terminal, and training still wants this one's samples."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
