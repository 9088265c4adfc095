"""`python -m stockroom.remotes.agent STATE LOCK`: become the fetch agent of the repository with that state folder.

LOCK is the inherited file descriptor of its lock, which stays open, and locked, for as long as this process lives.
"""

import os
import sys

if __name__ == "__main__":
    # At once, before anything is loaded: whoever started this waits for no more than that, and has no child to reap.
    if os.fork():
        os._exit(0)
    from stockroom.remotes.agent.server import run_agent

    run_agent(sys.argv[1])
