"""The verbs about history: log and blame."""
