"""The handle on a repository, and the session beside it."""
