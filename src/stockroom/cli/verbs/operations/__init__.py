"""The verbs of the operation log."""
