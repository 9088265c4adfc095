"""The verbs under `stock git`."""
