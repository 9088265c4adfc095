"""The verbs that change the stage by path."""
