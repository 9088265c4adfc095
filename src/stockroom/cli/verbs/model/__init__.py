"""The verbs under `stock model`."""
