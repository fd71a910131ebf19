"""Worker processes that prepare batches for torch's DataLoader."""

import signal
from typing import Any

from models.malloc import keep_freed_memory

START_METHOD = "forkserver"
"""How the workers are started.

A plain fork would inherit the threads of torch. A spawned process is finalised when it ends, and aborts ("terminate
called without an active exception") if its queue's thread is handing over a batch at that moment; a child of the fork
server leaves without finalising.
"""


def worker_options(workers: int, prefetch: int = 2) -> dict[str, Any]:
    """Return the arguments of a DataLoader whose batches come from `workers` processes, `prefetch` ahead in each.

    With 0 workers, the training process makes them.
    """
    if workers == 0:
        return {"num_workers": 0}
    return {
        "num_workers": workers,
        "prefetch_factor": prefetch,
        "multiprocessing_context": START_METHOD,
        "worker_init_fn": start_worker,
        "persistent_workers": True,
    }


def start_worker(_number: int) -> None:
    """Ignore interrupts and keep freed memory; runs in each worker as it starts.

    Ctrl-C reaches every process of a terminal, and the training process, which finishes its step, still needs batches.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
