"""The handle on a repository, and the session, a second kind of handle."""
