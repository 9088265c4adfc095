"""The verbs under `stock stash`, one module each."""
