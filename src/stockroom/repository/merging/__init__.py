"""Merges, reverts and cherry-picks on a branch, from start to commit."""
