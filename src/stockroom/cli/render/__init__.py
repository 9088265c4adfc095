"""Renders commits, columns, models and numbers as lines and as JSON documents."""
