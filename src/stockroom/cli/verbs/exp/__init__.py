"""The verbs under `stock exp`."""
