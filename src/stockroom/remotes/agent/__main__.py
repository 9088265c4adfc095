"""`python -m stockroom.remotes.agent STATE LOCK READY`: run the fetch agent of the repository with state folder STATE.

LOCK is the inherited file descriptor of the agent's lock. It stays open, and locked, while this process lives. READY is
that of a pipe to the process that started the agent.
"""

import contextlib
import os
import sys

if __name__ == "__main__":
    # Before any other import: the parent waits only for this fork, and has no child to reap.
    if os.fork():
        os._exit(0)
    with contextlib.suppress(OSError):  # another user's file, which is open for reading only
        os.pwrite(int(sys.argv[2]), b'{"pid": %d}' % os.getpid(), 0)  # until `holder` writes more
    from stockroom.remotes.agent.server import run_agent

    run_agent(sys.argv[1], lock=int(sys.argv[2]), ready=int(sys.argv[3]))
