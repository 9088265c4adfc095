"""`python -m stockroom.remotes.agent STATE`: become the fetch agent of the repository with that state folder."""

import os
import sys

if __name__ == "__main__":
    # At once, before anything is loaded: whoever started this waits for no more than that, and has no child to reap.
    if os.fork():
        os._exit(0)
    from stockroom.remotes.agent.server import run_agent

    run_agent(sys.argv[1])
