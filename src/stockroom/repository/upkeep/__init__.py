"""Keeping a repository healthy: gc, verify, repair, and the disk usage of its parts."""
