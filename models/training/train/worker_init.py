"""The processes that make samples for torch's DataLoader."""

import signal

from models.training.train.malloc import keep_freed_memory

START_METHOD = "forkserver"
"""How they are started.

A plain fork would inherit the threads of torch. A spawned process is finalised when it ends, and aborts ("terminate
called without an active exception") when its queue's thread is just then handing over a batch; a child of the fork
server leaves without that.
"""


def begin_making_samples(_number: int) -> None:
    """For `worker_init_fn`: leave interrupts to training, and keep memory.

    Ctrl-C reaches every process of a terminal, and training, which ends its step, still wants this one's samples.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
