"""How the processes that make samples are started."""

START_METHOD = "forkserver"
"""For torch's DataLoader.

A plain fork would inherit the threads of torch. A spawned process is finalised when it ends, and aborts ("terminate
called without an active exception") when its queue's thread is just then handing over a batch; a child of the fork
server leaves without that.
"""
